"""What the embed stage leaves in a workspace, as every later stage reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.prompts import fill, openai_templates
from despur.backbones.protocol import Backbone
from despur.catalog import load_backbone
from despur.data.examples import Attribute, Dataset, from_arrow
from despur.errors import WorkspaceError
from despur.features.encode import encode_texts
from despur.features.store import FeatureStore
from despur.features.texts import TextStore
from despur.mitigate.runs import load_heads
from despur.pipeline.runner import stage_state
from despur.pipeline.settings import ModelSettings
from despur.progress import Progress, silent
from despur.workspace import Workspace, read_parquet

EMBED = "embed"


@dataclass
class Embedded:
    """A workspace whose images are embedded; everything is read when first asked for.

    Attributes:
        workspace: the folder.
        device: where to compute.
        loaded: the backbone, where the caller has it already.
        progress: shows long work.
    """

    workspace: Workspace
    device: torch.device
    loaded: Backbone | None = None
    progress: Progress = silent

    @property
    def state(self) -> str:
        """Fingerprint of the embed stage.

        Raises:
            WorkspaceError: it has not finished.
        """
        state = stage_state(self.workspace, EMBED)
        if not state:
            raise WorkspaceError(
                "no images are embedded yet",
                where=self.workspace.root,
                now=f"run: despur embed DATASET --model MODEL -w {self.workspace.root}",
            )
        return state

    @cached_property
    def dataset(self) -> Dataset:
        """The images that could be read, a row a feature."""
        _ = self.state
        return from_arrow(read_parquet(self.workspace.path("examples.parquet")))

    @cached_property
    def store(self) -> FeatureStore:
        return FeatureStore(self.workspace.path("features"))

    @cached_property
    def heads(self) -> dict[str, Tensor]:
        """The pre-trained heads, on the device."""
        heads = load_heads(self.workspace.path("features", "heads.safetensors"))
        return {name: head.to(self.device) for name, head in heads.items()}

    @cached_property
    def model(self) -> ModelSettings:
        record = self.workspace.record(EMBED)
        assert record is not None, "the state above is of this record"
        return ModelSettings.model_validate(record.settings["model"])

    @cached_property
    def backbone(self) -> Backbone:
        if self.loaded is not None:
            return self.loaded
        _ = self.state
        settings = self.model
        return load_backbone(
            settings.spec,
            random_weights=settings.random_weights,
            trainable=settings.trainable,
            device=self.device,
            seed=settings.seed,
        )

    def prompts(self, phrases: list[str]) -> Float[Tensor, "templates phrases d_text"]:
        """Text features of every template with every phrase, on the device; each text is encoded once a workspace."""
        templates = openai_templates()
        store = TextStore(self.workspace.path("features", "texts.safetensors"), self.state)
        features = store.features(
            fill(templates, phrases), lambda texts: encode_texts(self.backbone, texts, progress=self.progress)
        )
        return features.to(self.device).unflatten(0, (len(templates), len(phrases)))

    @cached_property
    def class_prompts(self) -> Float[Tensor, "templates classes d_text"]:
        return self.prompts(list(self.dataset.classes))

    def group_prompts(self, attribute: Attribute) -> Float[Tensor, "templates groups d_text"]:
        """Prompts of every group of an attribute, in the order of the group index."""
        return self.prompts(self.dataset.group_phrases(attribute))
