"""Small reports with numbers that can be checked by eye."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from PIL import Image

from despur.report import BackboneSection, Curve, GroupRow, MethodRow, Panel, Rate, Report, Spread, Strip


def rate(accuracy: float) -> Rate:
    return Rate(accuracy, max(0.0, accuracy - 0.04), min(1.0, accuracy + 0.04))


@pytest.fixture
def groups() -> list[GroupRow]:
    """The shortcut of the paper: waterbirds on land are missed before, and found after."""
    return [
        GroupRow("landbird", "water", False, "landbird on land", 300, rate(0.98), rate(0.95)),
        GroupRow("landbird", "water", True, "landbird on water", 300, rate(0.80), rate(0.88)),
        GroupRow("waterbird", "water", False, "waterbird on land", 200, rate(0.41), rate(0.84)),
        GroupRow("waterbird", "water", True, "waterbird on water", 200, rate(0.97), rate(0.95)),
    ]


@pytest.fixture
def rows() -> list[MethodRow]:
    return [
        MethodRow("pretrained", "zero-shot", 1, Spread(0.79), Spread(0.41), Spread(0.9), Spread(0.5), Spread(0.48)),
        MethodRow(
            "lc+vc+vs",
            "clip+lc+vc+vs",
            5,
            average=Spread(0.906, 0.011),
            worst_group=Spread(0.84, 0.02),
            adjusted_average=Spread(0.93, 0.01),
            aiou_average=Spread(0.654, 0.012),
            aiou_worst_group=Spread(0.587, 0.03),
        ),
    ]


@pytest.fixture
def section(rows: list[MethodRow], groups: list[GroupRow]) -> BackboneSection:
    picture = Image.new("RGB", (96, 96), "teal")
    strip = Strip(
        "0001.jpg",
        "waterbird on land",
        [Panel(picture, "photograph"), Panel(picture, "zero-shot", said="landbird", correct=False, aiou=0.2)],
    )
    curve = Curve([0, 1, 2], [0.5, 0.8, 0.7], {"clip": [2.0, 1.0, 0.5], "vs": [1.0, 0.9, 0.8]}, best_epoch=1)
    return BackboneSection(
        "birdland:resnet",
        rows,
        groups,
        after_title="clip+lc+vc+vs",
        curves={"lc+vc+vs": curve},
        strips=[strip],
    )


@pytest.fixture
def report(section: BackboneSection) -> Report:
    return Report(
        "despur demo",
        "birdland",
        [section, replace(section, spec="birdland:vit")],
        datetime(2026, 6, 3, 14, 5, tzinfo=UTC),
        stage_seconds={"embed": 21.0, "mitigate": 74.0},
        settings={"mitigate": {"optimiser": {"lr": 1e-4}, "losses": ["clip", "vc"]}},
        versions={"torch": "2.14.0"},
        notes=["2 images could not be read."],
    )
