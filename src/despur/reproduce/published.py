"""Numbers that the paper prints (Yang et al., ICML 2023, Section 5); rates, discrepancies and AIoU as fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RN50, VIT_L = "RN50", "ViT-L-14-336"
"""Architectures as open_clip names them."""


@dataclass(frozen=True)
class PublishedRow:
    """One method with one backbone in Table 4 or 5.

    Attributes:
        model: open_clip's name of the architecture.
        method: our name of the method.
        average, worst_group: accuracy; in Table 5 ``average`` is that of the class baby pacifier.
        aiou_average, aiou_worst_group: AIoU, over all images and in the group of lowest accuracy.
    """

    model: str
    method: str
    average: float
    worst_group: float
    aiou_average: float
    aiou_worst_group: float


TABLE_1: Mapping[tuple[str, bool], int] = {
    ("landbird", False): 3498,
    ("landbird", True): 184,
    ("waterbird", False): 56,
    ("waterbird", True): 1057,
}
"""Training images by class and whether the background is water."""

TABLE_2: Mapping[str, Mapping[tuple[str, bool], float]] = {
    RN50: {
        ("landbird", False): 0.9344,
        ("landbird", True): 0.4492,
        ("waterbird", False): 0.5903,
        ("waterbird", True): 0.9159,
    },
    VIT_L: {
        ("landbird", False): 0.9929,
        ("landbird", True): 0.9020,
        ("waterbird", False): 0.3396,
        ("waterbird", True): 0.5561,
    },
}
"""Zero-shot accuracy of each group, by class and whether the background is water."""

TABLE_4 = (
    PublishedRow(RN50, "pretrained", 0.908, 0.449, 0.507, 0.479),
    PublishedRow(RN50, "clip", 0.813, 0.771, 0.510, 0.128),
    PublishedRow(RN50, "erm", 0.935, 0.544, 0.514, 0.139),
    PublishedRow(RN50, "group-dro", 0.833, 0.737, 0.509, 0.274),
    PublishedRow(RN50, "clip+lc+vc+ls", 0.847, 0.775, 0.628, 0.499),
    PublishedRow(RN50, "clip+lc+vc+vs", 0.832, 0.775, 0.654, 0.587),
    PublishedRow(VIT_L, "pretrained", 0.885, 0.340, 0.579, 0.551),
    PublishedRow(VIT_L, "clip", 0.972, 0.897, 0.687, 0.697),
    PublishedRow(VIT_L, "erm", 0.968, 0.581, 0.636, 0.680),
    PublishedRow(VIT_L, "group-dro", 0.941, 0.908, 0.669, 0.644),
    PublishedRow(VIT_L, "clip+lc+vc+ls", 0.971, 0.897, 0.698, 0.711),
    PublishedRow(VIT_L, "clip+lc+vc+vs", 0.969, 0.905, 0.716, 0.709),
)
"""Test accuracy and AIoU on Waterbirds."""


@dataclass(frozen=True)
class PublishedShortcut:
    """A row of Table 3: what RN50 leans on for a class of ImageNet, and what it says without it."""

    class_name: str
    attribute: str
    confused_class: str
    discrepancy: float


TABLE_3 = (
    PublishedShortcut("baby pacifier", "baby", "water bottle", 0.621),
    PublishedShortcut("can opener", "can", "letter opener", 0.452),
    PublishedShortcut("eraser", "hand", "pencil case", 0.185),
    PublishedShortcut("whistle", "ring", "padlock", 0.152),
    PublishedShortcut("pencil sharpener", "pencil", "pencil case", 0.0837),
)
"""Shortcuts of RN50 on ImageNet's training images."""

TABLE_5 = (
    PublishedRow(RN50, "pretrained", 0.737, 0.308, 0.651, 0.380),
    PublishedRow(RN50, "clip", 0.941, 0.917, 0.650, 0.571),
    PublishedRow(RN50, "erm", 0.949, 0.962, 0.661, 0.454),
    PublishedRow(RN50, "group-dro", 0.896, 0.931, 0.661, 0.568),
    PublishedRow(RN50, "clip+lc+vc+ls", 0.949, 0.962, 0.720, 0.645),
)
"""Baby pacifier against water bottle, trained on the images of both."""
