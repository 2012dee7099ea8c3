"""ImageNet, embedded and searched: what Tables 3 and 5 are counted from."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from despur.catalog import load_backbone, load_dataset
from despur.errors import SettingsError, nearest
from despur.pipeline.detecting import detect_stage, read_vocabulary
from despur.pipeline.embedded import Embedded
from despur.pipeline.embedding import embed_stage, predict_stage
from despur.pipeline.settings import ModelSettings, SearchSettings
from despur.progress import Progress, silent
from despur.workspace import Workspace


@dataclass(frozen=True)
class Looking:
    """How images are searched, the same for both tables.

    Attributes:
        detector: as ``SearchSettings`` has it.
        vocabulary: specs of what is looked for.
        attribute: the phrase that splits Table 5's classes.
    """

    detector: str = "owlvit"
    vocabulary: Sequence[str] = ("builtin",)
    attribute: str = "baby"

    def settings(self, split: str | None = None) -> SearchSettings:
        """What a stage is told."""
        return SearchSettings(detector=self.detector, vocabulary=tuple(self.vocabulary), split=split)

    def check_attribute(self) -> None:
        """Refuse an attribute that nobody looks for, before hours of looking.

        Raises:
            SettingsError: it is in no vocabulary.
        """
        phrases = read_vocabulary(self.vocabulary).phrases
        if self.attribute not in phrases:
            raise SettingsError(
                f"{self.attribute!r} is in no vocabulary that is looked for",
                where="--attribute",
                now=nearest(self.attribute, phrases),
            )


@contextmanager
def searched(
    dataset: str,
    folder: Path,
    model: ModelSettings,
    search: SearchSettings,
    *,
    device: torch.device,
    progress: Progress = silent,
) -> Generator[Embedded]:
    """A locked workspace whose images are embedded, predicted and searched; what is up to date is not done again.

    Raises:
        DespurError: the dataset, the model, the detector or the vocabulary cannot be had.
    """
    workspace = Workspace.create(folder, dataset=dataset, model=model.spec)
    with workspace.lock():
        examples = load_dataset(dataset, seed=model.seed, folder=folder, progress=progress)
        backbone = load_backbone(
            model.spec,
            random_weights=model.random_weights,
            trainable=model.trainable,
            device=device,
            seed=model.seed,
        )
        embed_stage(workspace, examples, backbone, model, progress=progress)
        embedded = Embedded(workspace, device, backbone, progress)
        predict_stage(embedded)
        detect_stage(embedded, search)
        yield embedded
