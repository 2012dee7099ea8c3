"""What training reads of a workspace: features, groups and prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from despur.data.examples import Attribute
from despur.features.streamed import StreamedFeatures
from despur.mitigate.membership import pair_groups
from despur.mitigate.study import Examples, Study
from despur.pipeline.detecting import DETECT
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.grouping import Grouping, grouping_of, groups_of, judged_by
from despur.pipeline.pairing import SpuriousPair, check_pairs, pairs_state, presence_in, spurious_pairs
from despur.pipeline.runner import stage_state
from despur.pipeline.settings import MitigateSettings
from despur.workspace import fingerprint, memory_bytes


def make_study(embedded: EmbeddedImages, attribute: Attribute, memory: int | None = None) -> Study:
    """What training reads, in float32 on the device: features of the training and validation splits, and prompts.

    Args:
        memory: bytes that features may take; where they take more, they are read from disk. None: any number.
    """
    dataset = embedded.dataset
    groups = dataset.groups(attribute.name)
    features = _features(embedded, memory)

    def examples(split: str) -> Examples:
        rows = dataset.split_rows(split)
        return Examples(features(rows), torch.from_numpy(dataset.labels[rows]), torch.from_numpy(groups[rows]))

    study = Study(
        train=examples("train"),
        val=examples("val"),
        class_prompts=embedded.class_prompts,
        group_prompts=embedded.group_prompts(attribute),
        phrase_prompts=embedded.prompts(_phrases(embedded.wording.worded(attribute))),
        heads=embedded.heads,
        classes=dataset.classes,
        attribute=attribute.name,
    )
    return study.to(embedded.device)


def _features(
    embedded: EmbeddedImages, memory: int | None
) -> Callable[[Int[np.ndarray, "rows"]], Tensor | StreamedFeatures]:
    """How features of chosen images are had: in memory where those of both splits fit, else block by block."""
    dataset = embedded.dataset
    rows = sum(len(dataset.split_rows(split)) for split in ("train", "val"))
    if memory is None or rows * embedded.rows(np.arange(1)).numel() * torch.float32.itemsize <= memory:
        return embedded.rows
    return partial(StreamedFeatures, embedded.rows, memory=memory)


def _phrases(attribute: Attribute) -> list[str]:
    return [phrase for phrase in (attribute.phrase, attribute.absent_phrase) if phrase is not None]


def make_paired_study(
    embedded: Embedded,
    grouping: str,
    pairs: Sequence[SpuriousPair],
    *,
    soft: bool = False,
    memory: int | None = None,
) -> Study:
    """The study whose groups are those of the pairs, and each class that no pair is of; without pairs, the classes.

    Args:
        grouping: name of the one by which runs are judged afterwards.
        soft: belong to both groups of a pair by the detector's score.
        memory: as in :func:`make_study`.

    Raises:
        WorkspaceError: not every split was searched, or a pair is of no class or names what was not looked for.
    """
    dataset = embedded.dataset
    if pairs:
        check_pairs(embedded, pairs)
    classes = [dataset.classes.index(pair.class_name) for pair in pairs]
    labels = torch.from_numpy(dataset.labels)
    presence = torch.from_numpy(presence_in(embedded, pairs, soft=soft)) if pairs else torch.zeros(len(labels), 0)
    groups, shares = pair_groups(labels, presence, classes, len(dataset.classes))

    features = _features(embedded, memory)

    def examples(split: str) -> Examples:
        rows = dataset.split_rows(split)
        own = torch.from_numpy(rows)
        return Examples(features(rows), labels[own], groups[own], None if shares is None else shares[own])

    phrases = [text for pair in pairs for text in embedded.wording.pair_phrases(pair.class_name, pair.attribute)]
    study = Study(
        train=examples("train"),
        val=examples("val"),
        class_prompts=embedded.class_prompts,
        group_prompts=embedded.prompts(phrases) if pairs else embedded.class_prompts[:, :0],
        phrase_prompts=embedded.prompts([pair.attribute for pair in pairs]) if pairs else None,
        heads=embedded.heads,
        classes=dataset.classes,
        attribute=grouping,
        pairs=tuple(zip(classes, (pair.attribute for pair in pairs), strict=True)),
    )
    return study.to(embedded.device)


@dataclass
class LazyStudy:
    """The study of a workspace, read only where something is not up to date.

    Attributes:
        attribute: its name; None: the only one there is.
        groups: as in ``MitigateSettings``.
        memory: as in :func:`make_study`; it changes nothing in the outcome.
    """

    embedded: Embedded
    attribute: str | None
    groups: str | None = None
    memory: int | None = None

    @classmethod
    def of(cls, embedded: Embedded, settings: MitigateSettings) -> LazyStudy:
        """The study that some settings ask for."""
        memory = None if settings.memory is None else memory_bytes(settings.memory)
        return cls(embedded, settings.attribute, settings.groups, memory)

    @cached_property
    def grouping(self) -> Grouping:
        """The groups by which runs are judged; methods may be told others."""
        return grouping_of(self.embedded, judged_by(self.embedded, self.groups, self.attribute))

    @cached_property
    def told(self) -> str:
        """Whose groups methods are told."""
        return groups_of(self.embedded, self.groups, self.attribute)

    @cached_property
    def state(self) -> str:
        """Fingerprint of everything that the study is made from."""
        if self.told == "attribute":
            return self.embedded.state
        workspace = self.embedded.workspace
        if self.told == "classes":
            return fingerprint(self.embedded.state, self.told)
        return fingerprint(self.embedded.state, stage_state(workspace, DETECT), self.told, pairs_state(workspace))

    @cached_property
    def study(self) -> Study:
        """The study, put together when it is first asked for."""
        if self.told == "attribute":
            return make_study(self.embedded, self.embedded.dataset.attribute(self.attribute), self.memory)
        pairs = () if self.told == "classes" else spurious_pairs(self.embedded)
        return make_paired_study(
            self.embedded, self.grouping.name, pairs, soft=self.told == "soft-verdicts", memory=self.memory
        )
