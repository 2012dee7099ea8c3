"""What training reads, from a workspace or from memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from despur.data.examples import Attribute
from despur.mitigate.study import Examples, Study
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.runner import stage_state
from despur.workspace import fingerprint


def make_study(embedded: EmbeddedImages, attribute: Attribute) -> Study:
    """What training reads, in float32 on the device: features of the training and validation splits, and prompts."""
    dataset = embedded.dataset
    groups = dataset.groups(attribute.name)

    def examples(split: str) -> Examples:
        rows = dataset.split_rows(split)
        return Examples(embedded.rows(rows), torch.from_numpy(dataset.labels[rows]), torch.from_numpy(groups[rows]))

    study = Study(
        train=examples("train"),
        val=examples("val"),
        class_prompts=embedded.class_prompts,
        group_prompts=embedded.group_prompts(attribute),
        phrase_prompts=embedded.prompts(_phrases(attribute)),
        heads=embedded.heads,
        classes=dataset.classes,
        attribute=attribute.name,
    )
    return study.to(embedded.device)


def _phrases(attribute: Attribute) -> list[str]:
    return [phrase for phrase in (attribute.phrase, attribute.absent_phrase) if phrase is not None]


@dataclass
class LazyStudy:
    """The study of a workspace, read only where something is not up to date.

    Attributes:
        name: of the attribute; None: the only one there is.
        groups: as in ``MitigateSettings``.
    """

    embedded: Embedded
    name: str | None
    groups: str = "attribute"

    @cached_property
    def attribute(self) -> Attribute:
        return self.embedded.dataset.attribute(self.name)

    @cached_property
    def state(self) -> str:
        """Fingerprint of everything that the study is made from."""
        if self.groups == "attribute":
            return self.embedded.state
        from despur.pipeline.pairing import judged_pairs  # here: most studies have no verdicts

        pairs = [
            [pair.class_name, pair.attribute, sorted(pair.struck)]
            for pair in judged_pairs(self.embedded.workspace).spurious
        ]
        return fingerprint(self.embedded.state, stage_state(self.embedded.workspace, "detect"), self.groups, pairs)

    @cached_property
    def study(self) -> Study:
        if self.groups == "attribute":
            return make_study(self.embedded, self.attribute)
        from despur.pipeline.pairing import judged_pairs, make_paired_study

        pairs = judged_pairs(self.embedded.workspace).spurious
        return make_paired_study(self.embedded, self.attribute, pairs, soft=self.groups == "soft-verdicts")
