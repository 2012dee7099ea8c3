"""Two workspaces: the first thing that differs is named, and everything that follows from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from despur.pipeline.differing import compare_workspaces
from despur.workspace import StageRecord, Workspace, write_json


def record(**fields: Any) -> StageRecord:
    usual = {"settings": {"embed": {"batch_size": 64}}, "inputs": "ab", "versions": {"torch": "2.9"}, "seed": 0}
    usual |= {"machine": {"threads": "2"}, "effort": {"shard_rows": 512}}
    return StageRecord(**{**usual, "seconds": 1.0, **fields})


@pytest.fixture
def a(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "a", dataset="folder:x", model="birdland:vit")
    workspace.save_record("embed", record())
    workspace.path("examples.parquet").write_bytes(b"rows")
    write_json(workspace.path("runs", "erm", "metrics.json"), {"accuracy": 0.5, "seconds": {"train": 1.0}})
    return workspace


@pytest.fixture
def b(a: Workspace, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(a.root, tmp_path / "b"))


def test_a_copy_is_the_same(a: Workspace, b: Workspace) -> None:
    comparison = compare_workspaces(a, b)
    assert comparison.differences == ()
    assert comparison.verdict == "the results are the same"


def test_how_long_it_took_is_no_difference(a: Workspace, b: Workspace) -> None:
    b.save_record("embed", record(seconds=9.0))
    write_json(b.path("runs", "erm", "metrics.json"), {"accuracy": 0.5, "seconds": {"train": 9.0}})
    assert compare_workspaces(a, b).differences == ()


@pytest.mark.parametrize(
    ("fields", "kind", "name", "sides", "cause"),
    [
        ({"settings": {"embed": {"batch_size": 8}}, "inputs": "c"}, "setting", "embed.batch_size", (64, 8), "setting"),
        ({"effort": {"shard_rows": 64}}, "setting", "shard_rows", (512, 64), "setting shard_rows"),
        ({"seed": 1}, "seed", "seed", (0, 1), "the seed"),
        ({"versions": {"torch": "3.0"}}, "version", "torch", ("2.9", "3.0"), "version torch"),
        ({"machine": {"threads": "8"}}, "machine", "threads", ("2", "8"), "machine threads"),
        ({"inputs": "cd"}, "inputs", "inputs", ("ab", "cd"), "it read other images"),
    ],
)
def test_a_cause_is_named_with_what_came_of_it(
    fields: dict[str, Any], kind: str, name: str, sides: tuple[Any, Any], cause: str, a: Workspace, b: Workspace
) -> None:
    b.save_record("embed", record(**fields))
    b.path("examples.parquet").write_bytes(b"other rows")
    comparison = compare_workspaces(a, b)
    first, second = comparison.differences
    assert (first.kind, first.stage, first.name, (first.a, first.b)) == (kind, "embed", name, sides)
    assert (second.kind, second.name) == ("file", "examples.parquet")
    assert "1 file differs; the first cause is in embed" in comparison.verdict
    assert cause in comparison.verdict


def test_other_bytes_without_a_cause_point_to_the_machine_or_to_damage(a: Workspace, b: Workspace) -> None:
    b.path("examples.parquet").write_bytes(b"other rows")
    assert "despur repair" in compare_workspaces(a, b).verdict


def test_the_first_cause_is_the_earliest_stage_whichever_was_run_last(a: Workspace, b: Workspace) -> None:
    for workspace in (a, b):
        workspace.save_record("predict", record(inputs=f"of {workspace.root.name}"))
    a.forget("embed")  # as a repair does
    for workspace, seed in ((a, 0), (b, 1)):
        workspace.save_record("embed", record(seed=seed))
        workspace.path("examples.parquet").write_bytes(b"%d" % seed)
    assert compare_workspaces(a, b).verdict == "1 file differs; the first cause is in embed: the seed"


def test_files_in_a_linked_folder_are_compared(a: Workspace, b: Workspace, tmp_path: Path) -> None:
    shutil.move(b.path("runs"), tmp_path / "elsewhere")
    b.path("runs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(b.root)
    assert compare_workspaces(a, b).differences == ()
    (tmp_path / "elsewhere" / "erm" / "metrics.json").write_text("{}")
    assert [difference.name for difference in compare_workspaces(a, b).differences] == ["runs/erm/metrics.json"]


def test_a_stage_that_only_one_has_is_a_difference(a: Workspace, b: Workspace) -> None:
    b.save_record("rank", record())
    b.path("discrepancies.parquet").write_bytes(b"pairs")
    comparison = compare_workspaces(a, b)
    assert [(found.kind, found.name) for found in comparison.differences] == [
        ("stage", "rank"),
        ("file", "discrepancies.parquet"),
    ]
    assert "only one of them has it" in comparison.verdict


def test_a_stage_that_was_run_again_is_still_the_cause_of_those_that_read_from_it(a: Workspace, b: Workspace) -> None:
    for workspace, inputs in ((a, "ab"), (b, "cd")):
        for stage in ("predict", "rank"):
            workspace.save_record(stage, record(settings={}, inputs=inputs))
    a.forget("embed")
    a.save_record("embed", record())  # as after despur repair: the last in workspace.json
    b.save_record("embed", record(settings={"embed": {"batch_size": 8}}, inputs="cd"))
    b.path("examples.parquet").write_bytes(b"other rows")
    comparison = compare_workspaces(a, b)
    assert [found.stage for found in comparison.differences] == ["embed", "predict", "rank", None]
    assert comparison.verdict.endswith("the first cause is in embed: setting embed.batch_size")
