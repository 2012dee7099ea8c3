"""The shortcuts that were planted in the objects are found, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from despur.backbones.protocol import Backbone
from despur.birdland.models import as_backbone, load_small, new_small
from despur.birdland.recipes import recipe_for
from despur.birdland.studies import DECOYS, PLANTED
from despur.birdland.train import align_texts
from despur.pipeline.planted import Shortcuts, find_shortcuts, shortcuts_table


@pytest.fixture(scope="session")
def studied() -> Backbone:
    """The model that ships with a shortcut for every planted pair."""
    return as_backbone(load_small("resnet"))


@pytest.fixture(scope="session")
def control() -> Backbone:
    """The same image tower, its texts aligned with captions in which companions are independent of the class."""
    shipped: Any = load_small("resnet").model
    small = new_small("resnet", seed=1)
    tower = {
        name: weight
        for name, weight in shipped.state_dict().items()
        if name.startswith("visual.") and "c_proj" not in name
    }
    small.model.load_state_dict(tower, strict=False)
    return as_backbone(align_texts(small, recipe_for("resnet", correlation=0.5)))


def discrepancies(found: Shortcuts) -> dict[tuple[str, str], float]:
    table = found.ranking.table.select(["class", "attribute", "discrepancy"]).to_pylist()
    return {(row["class"], row["attribute"]): row["discrepancy"] for row in table if row["discrepancy"] is not None}


def check_planted(found: Shortcuts) -> None:
    """Every planted pair is in the top five of its class and above every decoy of it."""
    by_pair = discrepancies(found)
    for name, companion in PLANTED.items():
        place = found.places[name, companion]
        assert place is not None, (name, companion)
        assert place <= 5, (name, companion, place)
        assert all(by_pair[name, companion] > by_pair.get((name, decoy), -1.0) for decoy in DECOYS), name


@pytest.fixture(scope="session")
def quick(studied: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Shortcuts:
    return find_shortcuts(tmp_path_factory.mktemp("shortcuts"), studied, quick=True, workers=1)


def test_the_planted_pairs_are_found_and_no_decoy_is(quick: Shortcuts) -> None:
    check_planted(quick)
    assert quick.false_alarms == []


def test_the_table_puts_the_truth_beside_each_row(quick: Shortcuts) -> None:
    told = quick.to_json()
    assert {row["class"]: row["attribute"] for row in told["rows"] if row["planted"]}.items() <= PLANTED.items()
    assert len(told["planted"]) == len(PLANTED)
    assert shortcuts_table(quick).row_count == len(quick.rows)


def test_finding_them_again_computes_nothing(quick: Shortcuts, studied: Backbone) -> None:
    before = {file: file.stat().st_mtime_ns for file in quick.workspace.rglob("*.parquet")}
    again = find_shortcuts(quick.workspace.parent, studied, quick=True, workers=1)
    assert {file: file.stat().st_mtime_ns for file in quick.workspace.rglob("*.parquet")} == before
    assert again.to_json() == quick.to_json()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_the_planted_pairs_are_found_in_every_world(seed: int, studied: Backbone, tmp_path: Path) -> None:
    found = find_shortcuts(tmp_path, studied, seed=seed)
    check_planted(found)
    # A rate of 5% lets a decoy through now and then: in world 0, "book" with "chair" at q = 0.047.
    assert len(found.false_alarms) <= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_model_without_shortcuts_raises_no_alarm(seed: int, control: Backbone, tmp_path: Path) -> None:
    assert find_shortcuts(tmp_path, control, seed=seed).rows == []
