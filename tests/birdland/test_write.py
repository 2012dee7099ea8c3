"""Birdland on disk: the layouts hold together, and any interruption ends in the same bytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from despur.birdland import write
from despur.birdland.studies import plan_birds, plan_objects, render
from despur.birdland.write import write_birds, write_objects
from despur.errors import DataError, SettingsError

T = TypeVar("T")

SCALE = 0.002
"""24 scenes."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_CHUNK", 5)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file's content, the lock aside."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


class Interrupting:
    """A progress bar whose user presses Ctrl-C after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.total = 0

    def __call__(
        self, steps: Iterable[T], *, total: int, label: str, unit: str = "steps", each: int = 1
    ) -> Iterator[T]:
        self.total = total
        for count, step in enumerate(steps, start=1):
            yield step
            if count == self.after:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "birds"
    write_birds(folder, seed=1, scale=SCALE, workers=1)
    return folder


def test_birds_look_like_the_waterbirds_download(birds: Path) -> None:
    rows = rows_of(birds / "metadata.csv")
    plans = plan_birds(1, SCALE)

    assert list(rows[0]) == ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    assert [int(row["y"]) for row in rows] == [plan.label for plan in plans]
    assert [("train", "val", "test")[int(row["split"])] for row in rows] == [plan.split for plan in plans]
    assert [int(row["place"]) for row in rows] == [int(plan.present) for plan in plans]
    assert {row["img_filename"].split("/")[0] for row in rows} == {"001.Landbird", "002.Waterbird"}


def test_every_image_is_the_planned_scene_with_its_mask_and_box_beside_it(birds: Path) -> None:
    rows = rows_of(birds / "metadata.csv")
    boxes = [line.split() for line in (birds / "bounding_boxes.txt").read_text().splitlines()]

    for row, box, plan in zip(rows, boxes, plan_birds(1, SCALE), strict=True):
        scene = render(plan)
        picture = np.asarray(Image.open(birds / row["img_filename"])).astype(int)
        mask = np.asarray(Image.open((birds / "segmentations" / row["img_filename"]).with_suffix(".png")))
        x0, y0, x1, y1 = scene.things[0].box

        assert np.abs(picture - scene.pixels).mean() < 8
        assert np.array_equal(mask == 255, scene.things[0].mask)
        assert set(np.unique(mask)) == {0, 255}
        assert box[0] == row["img_id"]
        assert [float(number) for number in box[1:]] == [x0, y0, x1 - x0, y1 - y0]


def test_the_same_world_written_elsewhere_by_two_processes_has_the_same_bytes(birds: Path, tmp_path: Path) -> None:
    write_birds(tmp_path / "again", seed=1, scale=SCALE, workers=2)

    assert bytes_of(tmp_path / "again") == bytes_of(birds)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_world_is_not_a_dataset_and_the_same_call_finishes_it(
    birds: Path, tmp_path: Path, after: int
) -> None:
    folder, resumed = tmp_path / "world", Interrupting(after=99)

    with pytest.raises(KeyboardInterrupt):
        write_birds(folder, seed=1, scale=SCALE, workers=1, progress=Interrupting(after))
    assert not (folder / "metadata.csv").exists()
    write_birds(folder, seed=1, scale=SCALE, workers=1, progress=resumed)

    assert resumed.total == len(plan_birds(1, SCALE)) - 5 * after
    assert bytes_of(folder) == bytes_of(birds)


def test_an_image_cut_short_by_a_power_failure_is_drawn_again(birds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    with pytest.raises(KeyboardInterrupt):
        write_birds(folder, seed=1, scale=SCALE, workers=1, progress=Interrupting(2))
    damaged = next(folder.glob("001.Landbird/*.jpg"))
    damaged.write_bytes(b"")
    (damaged.parent / ".Landbird_00001.abcd.partial").write_bytes(b"half")

    write_birds(folder, seed=1, scale=SCALE, workers=1)

    assert bytes_of(folder) == bytes_of(birds)


def test_a_finished_world_is_left_alone(tmp_path: Path) -> None:
    write_birds(tmp_path / "world", scale=SCALE, workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "world").rglob("*.*g")}

    write_birds(tmp_path / "world", scale=SCALE, workers=1)

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "world").rglob("*.*g")} == before


def test_another_world_in_the_folder_is_refused_and_named(birds: Path) -> None:
    with pytest.raises(DataError, match=r"another birdland.*seed 1"):
        write_birds(birds, seed=2, scale=SCALE, workers=1)
    with pytest.raises(DataError, match="another birdland"):
        write_objects(birds, seed=1, workers=1)


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("precious")

    with pytest.raises(DataError, match="not birdland's"):
        write_birds(tmp_path, scale=SCALE, workers=1)

    assert [path.name for path in tmp_path.iterdir()] == ["metadata.csv"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")

    with pytest.raises(DataError, match="not birdland's"):
        write_birds(tmp_path / "file", scale=SCALE, workers=1)


def test_a_second_process_is_told_that_the_folder_is_being_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_birds(tmp_path / "world", scale=SCALE, workers=1, progress=Interrupting(1))

    with FileLock(tmp_path / "world" / ".birdland.lock"), pytest.raises(DataError, match="another process"):
        write_birds(tmp_path / "world", scale=SCALE, workers=1)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_means_nothing_is_refused_before_anything_is_written(tmp_path: Path, scale: float) -> None:
    with pytest.raises(SettingsError, match="scale"):
        write_birds(tmp_path / "world", scale=scale)

    assert not (tmp_path / "world").exists()


def test_a_negative_seed_no_workers_a_split_without_scenes_and_a_rate_above_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="seed"):
        write_birds(tmp_path / "world", seed=-1)
    with pytest.raises(SettingsError, match="workers"):
        write_birds(tmp_path / "world", scale=SCALE, workers=0)
    with pytest.raises(SettingsError, match="no scenes"):
        write_objects(tmp_path / "world", val=0)
    with pytest.raises(SettingsError, match="correlation"):
        write_objects(tmp_path / "world", correlation=1.5)

    assert not (tmp_path / "world").exists()


def test_objects_are_a_table_with_a_column_for_every_thing_and_every_box_on_record(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    write_objects(folder, seed=2, train=12, val=6, test=6, workers=1)
    rows = rows_of(folder / "examples.csv")
    record = json.loads((folder / "objects.json").read_text())
    plans = plan_objects(2, train=12, val=6, test=6)

    assert [row["split"] for row in rows] == ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    assert list(record) == [row["image"] for row in rows]
    for row, plan in zip(rows, plans, strict=True):
        scene, listed = render(plan), record[row["image"]]
        assert Image.open(folder / row["image"]).size == (96, 96)
        assert [(thing["name"], tuple(thing["box"])) for thing in listed] == [(t.name, t.box) for t in scene.things]
        assert row["label"] == scene.things[0].name
        assert tuple(float(row[corner]) for corner in ("x0", "y0", "x1", "y1")) == scene.things[0].box
        columns = list(row)[7:]
        assert [name for name in columns if row[name] == "1"] == [
            name for name in columns if name in {thing.name for thing in scene.things}
        ]


@pytest.mark.slow
def test_the_full_study_has_table_1s_counts_on_disk(tmp_path: Path) -> None:
    write_birds(tmp_path / "world")

    assert len(rows_of(tmp_path / "world" / "metadata.csv")) == 11_788
    assert len(list((tmp_path / "world" / "segmentations").rglob("*.png"))) == 11_788
