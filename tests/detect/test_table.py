from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from despur.data.examples import Attribute, Dataset, make_dataset
from despur.data.images import fingerprint_images
from despur.detect import (
    SCHEMA,
    Detections,
    DetectSettings,
    Queries,
    Removal,
    Vocabulary,
    column_detections,
    detect_to_table,
    read_searched,
)
from despur.detect.protocol import NOT_FINITE
from despur.errors import DataError, ModelError, WorkspaceError
from despur.features.mirror import named_mirror

T = TypeVar("T")

COUNT = 10
SETTINGS = DetectSettings(batch_size=2, shard_rows=4)
WORDS = Vocabulary(("dark", "wide", "x" * 40), (Removal("bird", "names the class 'bird'"),))


class Looker:
    """Sees "wide" in wide images and "dark" twice in dark ones; cannot judge images that are purely blue."""

    spec = "looker"

    def __init__(self, name: str = "looker") -> None:
        self.name = name
        self.encoded = 0
        self.looked = 0
        self.stop_after: int | None = None

    def fingerprint(self) -> str:
        return self.name

    def encode(self, phrases: Sequence[str]) -> Queries[None]:
        self.encoded += 1
        kept = tuple(phrase for phrase in phrases if len(phrase) < 20)
        removed = tuple(Removal(phrase, "too long") for phrase in phrases if len(phrase) >= 20)
        return Queries(kept, removed, None)

    def detect(self, images: Sequence[Image.Image], queries: Queries[None]) -> Detections:
        if self.stop_after is not None and self.looked >= self.stop_after:
            raise KeyboardInterrupt
        self.looked += len(images)
        seen: list[tuple[int, int, float, tuple[float, ...]]] = []
        failed: dict[int, str] = {}
        for index, image in enumerate(images):
            colour = np.asarray(image).mean(axis=(0, 1))
            if colour[2] > 250 and colour[0] < 5:
                failed[index] = NOT_FINITE
                continue
            if colour.mean() < 100:
                seen += [(index, queries.phrases.index("dark"), 0.5 + k / 4, (0, 0, 1 + k, 1)) for k in range(2)]
            if image.width > image.height:
                seen.append((index, queries.phrases.index("wide"), 0.9, (np.nan,) * 4))
        return Detections(
            np.array([row[0] for row in seen], dtype=np.int64),
            np.array([row[1] for row in seen], dtype=np.int64),
            np.array([row[2] for row in seen], dtype=np.float32),
            np.array([row[3] for row in seen], dtype=np.float32).reshape(-1, 4),
            failed,
        )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten images: even ones wide, the first five dark; image 6 purely blue, image 7 torn."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        colour = (0, 0, 255) if number == 6 else (20, 20, 20) if number < 5 else (200, 200, 200)
        size = (12, 8) if number % 2 == 0 else (8, 12)
        Image.new("RGB", size, colour).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"torn")
    columns = {
        "id": [f"id {number}" for number in range(COUNT)],
        "image": [f"{number}.png" for number in range(COUNT)],
        "label": [0] * COUNT,
        "split": ["train"] * COUNT,
        "water": [number < 3 for number in range(COUNT)],
        "sand": [number == 2 for number in range(COUNT)],
    }
    return make_dataset(
        "ten", folder, ["bird"], [Attribute("water", "on water"), Attribute("sand", "on sand")], columns
    )


def test_the_table_holds_what_was_seen_and_nothing_for_what_was_not(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "detections.parquet"
    detect_to_table(dataset, Looker(), WORDS, path, SETTINGS)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    seen = [(row["id"], row["phrase"], row["score"]) for row in table.to_pylist()]
    dark = [(f"id {n}", "dark", score) for n in range(5) for score in (0.5, 0.75)]
    wide = [(f"id {n}", "wide", pytest.approx(0.9)) for n in (0, 2, 4, 8)]
    assert sorted(seen[:3]) == sorted([dark[0], dark[1], wide[0]])
    assert len(seen) == len(dark) + len(wide)
    assert all(row in seen for row in dark + wide)
    assert {row["x1"] for row in table.to_pylist() if row["phrase"] == "wide"} == {None}


def test_it_says_what_was_looked_for_what_was_not_and_which_images_count_nowhere(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "detections.parquet"
    searched = detect_to_table(dataset, Looker(), WORDS, path, SETTINGS)
    assert searched.phrases == ("dark", "wide")
    assert [removal.phrase for removal in searched.removed] == ["bird", "x" * 40]
    assert [entry[:2] for entry in searched.quarantined] == [("id 6", "6.png"), ("id 7", "7.png")]
    assert searched.quarantined[0][2] == NOT_FINITE
    assert read_searched(path) == searched


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    whole, broken = tmp_path / "a" / "detections.parquet", tmp_path / "b" / "detections.parquet"
    detect_to_table(dataset, Looker(), WORDS, whole, SETTINGS)
    looker = Looker()
    looker.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        detect_to_table(dataset, looker, WORDS, broken, SETTINGS)
    assert not broken.exists()
    again = Looker()
    detect_to_table(dataset, again, WORDS, broken, SETTINGS)
    assert again.looked == COUNT - 1 - 4
    assert broken.read_bytes() == whole.read_bytes()
    assert [entry.name for entry in broken.parent.iterdir()] == ["detections.parquet"]


def test_a_search_that_goes_on_with_another_batch_size_says_so_and_ends_with_the_bytes_of_that_size(
    dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = tmp_path / "a" / "detections.parquet", tmp_path / "b" / "detections.parquet"
    other = SETTINGS.model_copy(update={"batch_size": 3})
    detect_to_table(dataset, Looker(), WORDS, whole, other)
    looker = Looker()
    looker.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        detect_to_table(dataset, looker, WORDS, broken, SETTINGS)
    assert not caplog.records
    again = Looker()
    detect_to_table(dataset, again, WORDS, broken, other)
    (record,) = caplog.records
    assert "searched with batch size 2 (1 of them) are searched again with 3" in record.message
    assert again.looked == COUNT - 1
    assert broken.read_bytes() == whole.read_bytes()


def test_an_image_that_goes_while_the_search_is_on_stops_it_and_is_searched_when_it_is_back(
    dataset: Dataset, tmp_path: Path
) -> None:
    whole, path = tmp_path / "a" / "detections.parquet", tmp_path / "b" / "detections.parquet"
    detect_to_table(dataset, Looker(), WORDS, whole, SETTINGS)
    known = fingerprint_images(dataset.image_paths())
    lost = dataset.image_paths()[5]
    lost.rename(tmp_path / "away.png")
    with pytest.raises(DataError, match=r"5\.png: it was read when the work began, and now there is no such file"):
        detect_to_table(dataset, Looker(), WORDS, path, SETTINGS, contents=known)
    (tmp_path / "away.png").rename(lost)
    again = Looker()
    detect_to_table(dataset, again, WORDS, path, SETTINGS, contents=known)
    assert again.looked == COUNT - 1 - 4
    assert path.read_bytes() == whole.read_bytes()


def test_a_batch_that_the_device_does_not_hold_is_told_in_a_sentence(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(images: Sequence[Image.Image], queries: Queries[None]) -> Detections:
        raise torch.OutOfMemoryError("CUDA out of memory")

    looker = Looker()
    monkeypatch.setattr(looker, "detect", full)
    with pytest.raises(ModelError, match="looker: the device's memory does not hold 2 images at once"):
        detect_to_table(dataset, looker, WORDS, tmp_path / "detections.parquet", SETTINGS)


def test_another_machine_goes_on_from_the_shards_that_a_mirror_holds(dataset: Dataset, tmp_path: Path) -> None:
    whole, lost, second = (tmp_path / name / "detections.parquet" for name in ("whole", "lost", "second"))
    detect_to_table(dataset, Looker(), WORDS, whole, SETTINGS)
    mirror = named_mirror(f"file://{tmp_path}/store")
    looker = Looker()
    looker.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        detect_to_table(dataset, looker, WORDS, lost, SETTINGS, mirror=mirror)
    again, third = Looker(), Looker()
    detect_to_table(dataset, again, WORDS, second, SETTINGS, mirror=mirror)
    assert again.looked == COUNT - 1 - 4
    assert second.read_bytes() == whole.read_bytes()
    detect_to_table(dataset, third, WORDS, tmp_path / "third.parquet", SETTINGS, mirror=mirror)
    assert third.looked == 0
    assert (tmp_path / "third.parquet").read_bytes() == whole.read_bytes()


def test_a_damaged_shard_of_a_mirror_is_searched_again_and_mended(dataset: Dataset, tmp_path: Path) -> None:
    mirror = named_mirror(f"file://{tmp_path}/store")
    detect_to_table(dataset, Looker(), WORDS, tmp_path / "first.parquet", SETTINGS, mirror=mirror)
    next((tmp_path / "store").glob("*/*.parquet")).write_bytes(b"PAR1")
    looked: list[int] = []
    for _ in range(2):
        looker = Looker()
        detect_to_table(dataset, looker, WORDS, tmp_path / "second.parquet", SETTINGS, mirror=mirror)
        looked.append(looker.looked)
        assert (tmp_path / "second.parquet").read_bytes() == (tmp_path / "first.parquet").read_bytes()
    assert looked[0] > 0
    assert looked[1] == 0


@pytest.mark.parametrize("change", ["image", "detector", "phrases", "damage"])
def test_a_shard_of_something_else_is_not_kept(dataset: Dataset, tmp_path: Path, change: str) -> None:
    path = tmp_path / "detections.parquet"
    looker = Looker()
    looker.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        detect_to_table(dataset, looker, WORDS, path, SETTINGS)
    if change == "image":
        Image.new("RGB", (8, 12), (200, 200, 200)).save(dataset.root / "0.png")
    if change == "damage":
        next((tmp_path / "detections-shards").glob("*.parquet")).write_bytes(b"PAR1")
    again = Looker("another" if change == "detector" else "looker")
    words = Vocabulary(("dark", "tall", "wide")) if change == "phrases" else WORDS
    detect_to_table(dataset, again, words, path, SETTINGS)
    assert again.looked == COUNT - 1


def test_phrases_are_encoded_once_whatever_the_number_of_images(dataset: Dataset, tmp_path: Path) -> None:
    looker = Looker()
    detect_to_table(dataset, looker, WORDS, tmp_path / "detections.parquet", DetectSettings(batch_size=1, shard_rows=1))
    assert looker.encoded == 1


def test_the_size_of_batches_and_shards_changes_no_row(dataset: Dataset, tmp_path: Path) -> None:
    tables: list[object] = []
    for number, settings in enumerate((DetectSettings(), SETTINGS, DetectSettings(batch_size=3, shard_rows=5))):
        path = tmp_path / f"{number}.parquet"
        detect_to_table(dataset, Looker(), WORDS, path, settings)
        tables.append(pq.read_table(path).replace_schema_metadata(None).to_pydict())
    assert tables[0] == tables[1] == tables[2]


def test_a_table_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "detections.parquet"
    with pytest.raises(WorkspaceError, match="run despur detect"):
        read_searched(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(WorkspaceError, match=r"detections\.parquet: it is damaged"):
        read_searched(path)


def test_the_datasets_own_columns_are_sightings_without_a_place(dataset: Dataset) -> None:
    table = column_detections(dataset)
    assert table.schema.equals(SCHEMA)
    rows = [(row["id"], row["phrase"], row["score"], row["x0"]) for row in table.to_pylist()]
    assert rows == [(f"id {n}", "water", 1.0, None) for n in range(3)] + [("id 2", "sand", 1.0, None)]
    assert column_detections(dataset, ["sand"]).num_rows == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_stays_flat_over_five_hundred_images(owl: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(500)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(tmp_path / name)
    columns = {"id": names, "image": names, "label": [0] * 500, "split": ["train"] * 500}
    resident: list[int] = []

    def watched(steps: Iterable[T], *, total: int, label: str, unit: str = "steps", each: int = 1) -> Iterator[T]:
        for step in steps:
            if label == "detecting":
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
            yield step

    words = Vocabulary(tuple(f"{first}{second}" for first in "abcdefghijklm" for second in "nopqrstuvwxyz"))
    detect_to_table(
        make_dataset("noise", tmp_path, ["noise"], [], columns),
        owl.detector,
        words,
        tmp_path / "detections.parquet",
        DetectSettings(shard_rows=50),
        progress=watched,
    )
    assert len(resident) == 10
    assert max(resident[5:]) < 1.03 * resident[4]
