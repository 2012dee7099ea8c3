"""What the groups of a workspace are: by the dataset's attribute, or by a detector for judged pairs, or the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int

from despur.data.examples import Dataset
from despur.metrics.groups import group_name
from despur.pipeline.detecting import DETECT
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.pairing import judged_so_far, pair_warnings, pairs_state, presence_in, spurious_pairs
from despur.pipeline.runner import stage_state
from despur.workspace import fingerprint

Source = Literal["labels", "detections", "classes"]

JUDGED = "what was judged spurious"
"""Stands for the attribute's name where every class has attributes of its own; such a dataset has no attribute."""

CLASSES_ALONE = "the classes alone"
"""Stands for it where nothing splits the classes; such a dataset has no attribute either."""

BY_VERDICTS = ("verdicts", "soft-verdicts")
"""What ``groups`` of ``MitigateSettings`` may say where judged pairs make the groups."""

FEW_IMAGES = 20
"""A validation group of fewer tells settings apart by chance more than by merit."""

MOST_NAMED = 6
"""Small groups that are told one by one; of a thousand classes nearly all may be small."""


@dataclass(frozen=True)
class Grouping:
    """How every image of a dataset is grouped: by its class, and by whether it shows that class's spurious attribute.

    Attributes:
        name: the attribute's, ``JUDGED`` or ``CLASSES_ALONE``.
        source: who says what an image shows: the dataset's labels, a detector, or nobody.
        classes: those that are split: all, or with detections those with a judged pair.
        attributes: of each of them, what splits it, one phrase or several.
        whole: the other classes, which are one group each.
        phrases: what names each group, in the order of the group index.
        groups: 2 * (place among ``classes``) + present, and after those the place among ``whole``.
    """

    name: str
    source: Source
    classes: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]
    phrases: tuple[str, ...]
    groups: Int[np.ndarray, "images"]
    whole: tuple[str, ...] = ()

    @property
    def split_groups(self) -> range:
        """The groups that an attribute makes."""
        return range(2 * len(self.classes))

    @property
    def names(self) -> list[str]:
        """The groups in a few words, in the order of the group index."""
        split = zip(self.classes, self.attribute_names, strict=True)
        return [
            *(group_name(name, attribute, present=present) for name, attribute in split for present in (False, True)),
            *self.whole,
        ]

    @property
    def attribute_names(self) -> list[str]:
        """Of each class, its attributes as one name: "water", "water or bamboo"."""
        return [" or ".join(names) for names in self.attributes]

    @property
    def subject(self) -> str:
        """What a model is to stop leaning on, in words; empty where that is not known."""
        return self.name if self.source == "labels" else ", ".join(dict.fromkeys(sum(self.attributes, ())))

    @property
    def note(self) -> str:
        """What a reader must know of the groups; empty where they are labelled."""
        if self.source == "labels":
            return ""
        if self.source == "classes":
            return "no shortcut is known: each class is one group, and nothing here says whether the model leans on one"
        return (
            "the groups are inferred from detections of what people judged spurious, and not from labels: where the "
            "detector errs, an image is in the wrong group"
        )


def grouping_of(embedded: EmbeddedImages, attribute: str | None = None) -> Grouping:
    """The groups by which runs are judged: the dataset's attribute's where it has any, else those of judged pairs.

    Args:
        attribute: of the dataset; None: the only one there is. Where the dataset has none, ``CLASSES_ALONE`` gives the
            classes, and anything else the judged pairs.

    Raises:
        DataError: there is no such attribute, or neither an attribute nor a workspace that holds verdicts.
        WorkspaceError: the dataset has no attribute, and no pair is judged spurious or not every split was searched.
    """
    dataset = embedded.dataset
    if dataset.attributes or not isinstance(embedded, Embedded):
        return labelled_grouping(dataset, attribute)
    return class_grouping(dataset) if attribute == CLASSES_ALONE else judged_grouping(embedded)


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


def judged_by(embedded: EmbeddedImages, chosen: str | None, attribute: str | None = None) -> str | None:
    """What :func:`grouping_of` is to be asked for: a dataset without attributes is judged as its methods are told.

    Args:
        chosen, attribute: as :func:`groups_of` takes them.
    """
    return CLASSES_ALONE if chosen == "classes" and not embedded.dataset.attributes else attribute


def grouping_state(embedded: Embedded) -> tuple[str, ...]:
    """What the groups hang on beside the embedding: () where they are labelled, or nothing is judged spurious."""
    if embedded.dataset.attributes or not judged_so_far(embedded.workspace).spurious:
        return ()
    return (fingerprint(stage_state(embedded.workspace, DETECT), pairs_state(embedded.workspace)),)


def group_warnings(embedded: Embedded, attribute: str | None = None, chosen: str | None = None) -> list[str]:
    """What makes a result by these groups weaker than it looks, a sentence each.

    Groups with few validation images among those that methods are told and selected by, and where these are by verdicts
    what may make them wrong.

    Args:
        attribute, chosen: as :func:`groups_of` takes them.

    Raises:
        DespurError: as :func:`groups_of` and :func:`judged_grouping`.
    """
    told, validation = groups_of(embedded, chosen, attribute), embedded.dataset.split_rows("val")
    if told in BY_VERDICTS:
        return [*small_groups(judged_grouping(embedded), validation), *pair_warnings(embedded)]
    by_classes = told == "classes"
    grouping = class_grouping(embedded.dataset) if by_classes else labelled_grouping(embedded.dataset, attribute)
    return small_groups(grouping, validation)


def small_groups(grouping: Grouping, validation: Int[np.ndarray, "rows"]) -> list[str]:
    """A sentence for every validation group with fewer than ``FEW_IMAGES`` images; none for one that is nowhere.

    Beyond ``MOST_NAMED`` the others are counted.

    Args:
        validation: rows of the validation images.
    """

    def sizes(groups: Int[np.ndarray, "images"]) -> list[int]:
        return np.bincount(groups, minlength=len(grouping.names)).tolist()

    found: list[str] = []
    for name, size, everywhere in zip(
        grouping.names, sizes(grouping.groups[validation]), sizes(grouping.groups), strict=True
    ):
        if size == 0 and everywhere:
            found.append(f"no validation image shows {name}, so nothing is selected by that group")
        elif 0 < size < FEW_IMAGES:
            images = "validation image shows" if size == 1 else "validation images show"
            found.append(f"only {size} {images} {name}; what was selected by them may be chance")
    more = len(found) - MOST_NAMED
    if more > 1:
        return [*found[:MOST_NAMED], f"and {more:,} more groups have fewer than {FEW_IMAGES} validation images or none"]
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


def class_grouping(dataset: Dataset) -> Grouping:
    """Each class as one group."""
    return Grouping(CLASSES_ALONE, "classes", (), (), dataset.classes, dataset.labels, whole=dataset.classes)


def judged_grouping(embedded: Embedded) -> Grouping:
    """The groups of the pairs that are judged spurious: present is any attribute of the image's class that was seen.

    A class without such a pair is one group. It counts among the worst: a model that calls everything by the judged
    class's name has no error in that class's groups.

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
    whole = tuple(name for name in dataset.classes if name not in by_class)
    first = {name: 2 * place for place, name in enumerate(classes)}
    first |= {name: place for place, name in enumerate(whole, start=2 * len(classes))}
    groups = np.array([first[name] for name in dataset.classes], dtype=np.int64)[dataset.labels]
    for name in classes:
        own = np.flatnonzero(dataset.labels == dataset.classes.index(name))
        groups[own] += seen[own][:, by_class[name]].any(axis=1)
    attributes = tuple(tuple(pairs[number].attribute for number in by_class[name]) for name in classes)
    found = Grouping(JUDGED, "detections", classes, attributes, (), groups, whole)
    return replace(found, phrases=tuple(found.names))
