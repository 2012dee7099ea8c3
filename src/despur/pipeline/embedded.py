"""Embedded images, as everything after the encoders reads them: from a workspace, or in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.backbones.prompts import fill
from despur.backbones.protocol import Backbone
from despur.catalog import load_backbone
from despur.data.examples import Attribute, Dataset, from_arrow
from despur.data.quarantine import quarantine_table
from despur.errors import WorkspaceError
from despur.features.encode import encode_prompts, encode_texts
from despur.features.store import FeatureStore
from despur.features.texts import TextStore
from despur.mitigate.runs import load_heads
from despur.pipeline.runner import damaged_outputs
from despur.pipeline.settings import ModelSettings
from despur.pipeline.wording import WORDING, Wording
from despur.progress import Progress, silent
from despur.workspace import StageRecord, Workspace, fingerprint, read_parquet

EMBED = "embed"
PREDICT = "predict"


def embedded_state(stages: Mapping[str, StageRecord]) -> str:
    """Fingerprint of what every later stage reads: the embedding and, where they are not the dataset's, the words."""
    words = stages.get(WORDING)
    return stages[EMBED].inputs if words is None else fingerprint(stages[EMBED].inputs, words.inputs)


class EmbeddedImages(ABC):
    """A dataset whose images went through a frozen encoder.

    Attributes:
        device: where to compute.
        progress: shows long work.
    """

    device: torch.device
    progress: Progress

    @cached_property
    @abstractmethod
    def dataset(self) -> Dataset:
        """The images that could be read, a row a feature."""

    @cached_property
    @abstractmethod
    def quarantine(self) -> pa.Table:
        """The images that could not, as :func:`~despur.data.quarantine.quarantine_table` has them."""

    @cached_property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The model, loaded when it is first asked for."""
        ...

    @cached_property
    @abstractmethod
    def heads(self) -> dict[str, Tensor]:
        """The pre-trained heads, on the device."""

    @abstractmethod
    def rows(self, indices: Int[np.ndarray, "rows"]) -> Tensor:
        """Features of the chosen images, on the CPU: [rows, ...]."""

    @cached_property
    @abstractmethod
    def wording(self) -> Wording:
        """The templates, and what classes and attributes are called in them."""

    @abstractmethod
    def filled(self, phrases: list[str]) -> Float[Tensor, "templates phrases d_text"]:
        """Text features of every template with every phrase, on the device."""

    def prompts(self, phrases: Sequence[str | tuple[str, ...]]) -> Float[Tensor, "prompts phrases d_text"]:
        """Text features of every template with every phrase, on the device.

        A phrase may be several that mean the same, as ``wording`` names a class. Each phrase has the same number of
        rows, a template in a variant each, so that the mean over rows weighs its alternatives alike.
        """
        each = [(phrase,) if isinstance(phrase, str) else phrase for phrase in phrases]
        count = self.wording.variants
        rows = [self.filled([texts[number * len(texts) // count] for texts in each]) for number in range(count)]
        return torch.cat(rows)

    @cached_property
    def class_prompts(self) -> Float[Tensor, "prompts classes d_text"]:
        """Text features of every template with every class name, on the device."""
        return self.prompts([self.wording.names(name) for name in self.dataset.classes])

    def group_prompts(self, attribute: Attribute) -> Float[Tensor, "prompts groups d_text"]:
        """Prompts of every group of an attribute, in the order of the group index."""
        return self.prompts(self.wording.group_phrases(self.dataset.classes, attribute))


class InMemory(EmbeddedImages):
    """Images embedded in this process, for a notebook: nothing is written.

    Args:
        images: features, a row an image of the dataset.
        wording: what prompts are made of; None: OpenAI's templates and the dataset's own words.
        quarantine: the images that could not be read; None: all could.
    """

    def __init__(
        self,
        dataset: Dataset,
        backbone: Backbone,
        images: Tensor,
        *,
        device: torch.device,
        progress: Progress = silent,
        wording: Wording | None = None,
        quarantine: pa.Table | None = None,
    ) -> None:
        self._dataset, self._backbone, self.images = dataset, backbone, images
        self._wording = wording or Wording()
        self._quarantine = quarantine_table([]) if quarantine is None else quarantine
        self.device, self.progress = device, progress
        self._texts: dict[str, Tensor] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The examples that were embedded."""
        return self._dataset

    @cached_property
    def quarantine(self) -> pa.Table:
        """The examples that could not be read."""
        return self._quarantine

    @cached_property
    def backbone(self) -> Backbone:
        """The model that embedded them."""
        return self._backbone

    @cached_property
    def heads(self) -> dict[str, Tensor]:
        """The pre-trained heads, on the device."""
        return {name: head.to(self.device) for name, head in self._backbone.heads().items()}

    def rows(self, indices: Int[np.ndarray, "rows"]) -> Tensor:
        """Features of some examples, on the CPU."""
        return self.images[torch.from_numpy(indices)]

    @cached_property
    def wording(self) -> Wording:
        """Templates and names."""
        return self._wording

    def filled(self, phrases: list[str]) -> Float[Tensor, "templates phrases d_text"]:
        """Text features of every template with every phrase, on the device; each text is encoded once."""
        templates = self.wording.templates
        missing = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._texts]
        if missing:
            features = encode_prompts(self._backbone, templates, missing, progress=self.progress).to(self.device)
            self._texts |= dict(zip(missing, features.unbind(1), strict=True))
        return torch.stack([self._texts[phrase] for phrase in phrases], dim=1)


@dataclass
class Embedded(EmbeddedImages):
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
    def record(self) -> StageRecord:
        """What the embed stage was computed from.

        Raises:
            WorkspaceError: it has not finished.
        """
        record = self.workspace.record(EMBED)
        if record is None:
            raise WorkspaceError(
                "no images are embedded yet",
                where=self.workspace.root,
                now=f"run: despur embed DATASET --model MODEL -w {self.workspace.root}",
            )
        return record

    @property
    def state(self) -> str:
        """Fingerprint of the embedding and of the wording; an error where it has not finished, as for ``record``."""
        _ = self.record
        return embedded_state(self.workspace.about()["stages"])

    @cached_property
    def dataset(self) -> Dataset:
        """The images that could be read, a row a feature."""
        _ = self.record  # an unfinished embedding is refused, not read
        return from_arrow(read_parquet(self.workspace.path("examples.parquet")))

    @cached_property
    def quarantine(self) -> pa.Table:
        """The images that could not be read."""
        return read_parquet(self.workspace.path("quarantine.parquet"))

    @cached_property
    def store(self) -> FeatureStore:
        """The features on disk."""
        return FeatureStore(self.workspace.path("features"))

    def rows(self, indices: Int[np.ndarray, "rows"]) -> Tensor:
        """Features of some examples, on the CPU."""
        return self.store.rows(indices)

    @cached_property
    def heads(self) -> dict[str, Tensor]:
        """The pre-trained heads, on the device."""
        file = self.workspace.path("features", "heads.safetensors")
        heads = load_heads(file, now="delete it and embed again")
        if damaged_outputs(self.workspace, self.record, [file]):
            raise WorkspaceError(
                "it is not what was written", where=file, now=f"run: despur repair -w {self.workspace.root}"
            )
        return {name: head.to(self.device) for name, head in heads.items()}

    @cached_property
    def model(self) -> ModelSettings:
        """Which model the images went through."""
        return ModelSettings.model_validate(self.record.settings["model"])

    @cached_property
    def backbone(self) -> Backbone:
        """The model, loaded as the workspace's record says, unless it is given.

        Raises:
            WorkspaceError: under the same name lie other weights now than the images were embedded with.
        """
        if self.loaded is not None:
            return self.loaded
        settings = self.model
        backbone = load_backbone(
            settings.spec,
            random_weights=settings.random_weights,
            trainable=settings.trainable,
            device=self.device,
            seed=settings.seed,
        )
        if self.record.weights and self.record.weights != backbone.fingerprint():
            raise WorkspaceError(
                f"{settings.spec} is not the model any more that its images were embedded with",
                where=self.workspace.root,
                now="put the weights back, or run despur embed (or despur run) again",
            )
        return backbone

    @cached_property
    def wording(self) -> Wording:
        """Templates and names that the workspace was embedded with."""
        record = self.workspace.record(WORDING)
        return Wording() if record is None else Wording.model_validate(record.settings)

    def filled(self, phrases: list[str]) -> Float[Tensor, "templates phrases d_text"]:
        """Text features of every template with every phrase, on the device; each text is encoded once a workspace."""
        templates = self.wording.templates
        # Other words change no text's features: what was encoded for earlier ones stays good.
        store = TextStore(self.workspace.path("features", "texts.safetensors"), self.record.inputs)
        features = store.features(
            fill(templates, phrases), lambda texts: encode_texts(self.backbone, texts, progress=self.progress)
        )
        return features.to(self.device).unflatten(0, (len(templates), len(phrases)))
