"""What the groups of a workspace are: labelled by the dataset's attribute, or seen by a detector for judged pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from despur.data.examples import Dataset
from despur.mitigate.membership import NOWHERE
from despur.pipeline.detecting import DETECT
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.pairing import pair_warnings, pairs_state, presence_in, spurious_pairs
from despur.pipeline.runner import stage_state
from despur.workspace import fingerprint

Source = Literal["labels", "detections"]

JUDGED = "what was judged spurious"
"""Stands for the attribute's name where every class has attributes of its own; such a dataset has no attribute."""

FEW_IMAGES = 20
"""A validation group of fewer tells settings apart by chance more than by merit."""


@dataclass(frozen=True)
class Grouping:
    """How every image of a dataset is grouped: by its class, and by whether it shows that class's spurious attribute.

    Attributes:
        name: the attribute's, or ``JUDGED``.
        source: who says what an image shows: the dataset's labels, or a detector.
        classes: those that have groups: all, or with detections those with a judged pair.
        attributes: of each of them, what splits it, one phrase or several.
        phrases: what names each group, in the order of the group index.
        groups: 2 * (place among ``classes``) + present; -1 where an image is in no group.
    """

    name: str
    source: Source
    classes: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]
    phrases: tuple[str, ...]
    groups: Int[np.ndarray, "images"]

    @property
    def attribute_names(self) -> list[str]:
        """Of each class, its attributes as one name: "water", "water or bamboo"."""
        return [" or ".join(names) for names in self.attributes]

    @property
    def subject(self) -> str:
        """What a model is to stop leaning on, in words."""
        return self.name if self.source == "labels" else ", ".join(dict.fromkeys(sum(self.attributes, ())))

    @property
    def note(self) -> str:
        """What a reader must know of the groups; empty where they are labelled."""
        if self.source == "labels":
            return ""
        return (
            "the groups are inferred from detections of what people judged spurious, and not from labels: where the "
            "detector errs, an image is in the wrong group"
        )


def grouping_of(embedded: EmbeddedImages, attribute: str | None = None) -> Grouping:
    """The groups by which runs are judged: the dataset's attribute's where it has any, else those of judged pairs.

    Args:
        attribute: of the dataset; None: the only one there is. Not read where the dataset has none.

    Raises:
        DataError: there is no such attribute, or neither an attribute nor a workspace that holds verdicts.
        WorkspaceError: the dataset has no attribute, and no pair is judged spurious or not every split was searched.
    """
    dataset = embedded.dataset
    if dataset.attributes or not isinstance(embedded, Embedded):
        return labelled_grouping(dataset, attribute)
    return judged_grouping(embedded)


def groups_of(embedded: Embedded, chosen: str | None, attribute: str | None = None) -> str:
    """Whose groups methods are told: what was chosen, or the attribute's where the dataset has one, else verdicts.

    Args:
        chosen: as ``groups`` of ``MitigateSettings``.
        attribute: the name that was asked for, if any.

    Raises:
        DataError: groups of an attribute are asked for, and the dataset has none.
    """
    if embedded.dataset.attributes:
        return chosen or "attribute"
    if chosen == "attribute" or attribute is not None:
        embedded.dataset.attribute(attribute)  # refused in the dataset's own words
    return chosen or "verdicts"


def grouping_state(embedded: Embedded) -> tuple[str, ...]:
    """What the groups hang on beside the embedding: () where they are labelled."""
    if embedded.dataset.attributes:
        return ()
    return (fingerprint(stage_state(embedded.workspace, DETECT), pairs_state(embedded.workspace)),)


def group_warnings(embedded: Embedded, attribute: str | None = None, chosen: str | None = None) -> list[str]:
    """What makes a result by these groups weaker than it looks, a sentence each.

    Validation groups with few images, and where methods are told groups by verdicts what may make those wrong.

    Args:
        attribute, chosen: as :func:`groups_of` takes them.

    Raises:
        DespurError: as :func:`grouping_of` and :func:`groups_of`.
    """
    grouping = grouping_of(embedded, attribute)
    by_verdicts = groups_of(embedded, chosen, attribute) != "attribute"
    return [
        *small_groups(grouping, embedded.dataset.split_rows("val")),
        *(pair_warnings(embedded.workspace) if by_verdicts else []),
    ]


def small_groups(grouping: Grouping, validation: Int[np.ndarray, "rows"]) -> list[str]:
    """A sentence for every validation group with fewer than ``FEW_IMAGES`` images; none for one that is nowhere.

    Args:
        validation: rows of the validation images.
    """

    def sizes(groups: Int[np.ndarray, "images"]) -> list[int]:
        return np.bincount(groups[groups >= 0], minlength=2 * len(grouping.classes)).tolist()

    found: list[str] = []
    for group, (size, everywhere) in enumerate(
        zip(sizes(grouping.groups[validation]), sizes(grouping.groups), strict=True)
    ):
        presence = "with" if group % 2 else "without"
        name = f"{grouping.classes[group // 2]} {presence} {grouping.attribute_names[group // 2]}"
        if size == 0 and everywhere:
            found.append(f"no validation image shows {name}, so nothing is selected by that group")
        elif 0 < size < FEW_IMAGES:
            images = "validation image shows" if size == 1 else "validation images show"
            found.append(f"only {size} {images} {name}; what was selected by them may be chance")
    return found


def labelled_grouping(dataset: Dataset, attribute: str | None = None) -> Grouping:
    """The groups of one of the dataset's attributes.

    Raises:
        DataError: there is no such attribute, or None is given and there are several.
    """
    found = dataset.attribute(attribute)
    return Grouping(
        name=found.name,
        source="labels",
        classes=dataset.classes,
        attributes=((found.name,),) * len(dataset.classes),
        phrases=tuple(dataset.group_phrases(found)),
        groups=dataset.groups(found.name),
    )


def judged_grouping(embedded: Embedded) -> Grouping:
    """The groups of the pairs that are judged spurious: present is any attribute of the image's class that was seen.

    Raises:
        WorkspaceError: no pair is judged spurious, not every split was searched, or a pair is of no class.
    """
    dataset = embedded.dataset
    pairs = spurious_pairs(embedded)
    by_class: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        by_class.setdefault(pair.class_name, []).append(number)
    classes = tuple(name for name in dataset.classes if name in by_class)
    seen = presence_in(embedded, pairs) > 0
    labels = dataset.labels
    groups = np.full(len(dataset), NOWHERE, dtype=np.int64)
    for place, name in enumerate(classes):
        own = labels == dataset.classes.index(name)
        groups[own] = 2 * place + seen[own][:, by_class[name]].any(axis=1)
    attributes = tuple(tuple(pairs[number].attribute for number in by_class[name]) for name in classes)
    return Grouping(JUDGED, "detections", classes, attributes, _phrases(classes, attributes), groups)


def _phrases(classes: tuple[str, ...], attributes: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    return tuple(
        f"{name} {ending}"
        for name, own in zip(classes, attributes, strict=True)
        for ending in (f"without {' or '.join(own)}", f"with {' or '.join(own)}")
    )
