"""Hugging Face datasets as they lie in folders: Parquet repositories, saved Arrow files, image folders."""

from __future__ import annotations

import io
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from despur.catalog import load_dataset
from despur.data import hf
from despur.data.examples import Dataset
from despur.data.images import read_image
from despur.errors import DataError

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "big_dog"], "_type": "ClassLabel"}}


def picture(number: int, kind: str = "PNG") -> bytes:
    """A square whose red is its number."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 9, 9)).save(buffer, kind)
    return buffer.getvalue()


def rows(first: int, count: int, *, noted: bool = True, **more: Any) -> pa.Table:
    numbers = range(first, first + count)
    images = [{"bytes": picture(number), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"image": images, "label": [number % 2 for number in numbers], **more})
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": FEATURES}})} if noted else None
    )


def save(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(table, file, row_group_size=3)
    else:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Thirty images, 0 to 29, in Parquet files as repositories name them."""
    root = tmp_path / "repository"
    save(root / "data" / "train-00000-of-00002.parquet", rows(0, 12))
    save(root / "data" / "train-00001-of-00002.parquet", rows(12, 8))
    save(root / "data" / "validation-00000-of-00001.parquet", rows(20, 4))
    save(root / "data" / "test-00000-of-00001.parquet", rows(24, 6))
    return root


def load(root: Path, *options: str, seed: int = 0) -> Dataset:
    return load_dataset(",".join([f"hf:{root}", *options]), folder=root.parent / "work", seed=seed)


def numbers(dataset: Dataset) -> list[int]:
    return [read_image(path).getpixel((0, 0))[0] for path in dataset.image_paths()]


def test_a_repository_of_parquet_files_is_unpacked_in_order(repository: Path) -> None:
    dataset = load(repository)
    assert dataset.classes == ("cat", "big dog")
    assert numbers(dataset) == list(range(30))
    assert dataset.labels.tolist() == [number % 2 for number in range(30)]
    assert Counter(dataset.table["split"].to_pylist()) == {"train": 20, "val": 4, "test": 6}
    assert dataset.ids[19:21] == ["train/19", "val/0"]


def test_images_are_unpacked_byte_for_byte(repository: Path) -> None:
    assert load(repository).image_paths()[7].read_bytes() == picture(7)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".jpg"), ("GIF", ".gif"), ("WEBP", ".webp"), ("TIFF", ".tif")])
def test_a_file_gets_the_suffix_of_its_content(kind: str, suffix: str, tmp_path: Path) -> None:
    table = pa.table({"img": [picture(number, kind) for number in range(30)], "label": ["a", "b", "c"] * 10})
    save(tmp_path / "x" / "train.parquet", table)
    dataset = load(tmp_path / "x")
    assert dataset.classes == ("a", "b", "c")
    assert {path.suffix for path in dataset.image_paths()} == {suffix}


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    root = tmp_path / "saved"
    for split, first, count in (("train", 0, 8), ("validation", 8, 4), ("test", 12, 4)):
        save(root / split / "data-00000-of-00001.arrow", rows(first, count))
        (root / split / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
        )
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    assert numbers(load(root)) == list(range(16))


def test_image_folders_are_read_as_folders(tmp_path: Path) -> None:
    for number in range(6):
        for name in ("cat", "dog"):
            file = tmp_path / "pictures" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture(number))
    assert load(tmp_path / "pictures").classes == ("cat", "dog")


@pytest.mark.parametrize(("splits", "test"), [(("train",), 2), (("train", "test"), 6)])
def test_a_split_that_is_missing_is_drawn_from_training_by_the_seed(
    repository: Path, splits: tuple[str, ...], test: int
) -> None:
    for file in repository.rglob("*.parquet"):
        if file.name.split("-")[0] not in splits:
            file.unlink()
    dataset = load(repository, seed=1)
    assert Counter(dataset.table["split"].to_pylist())["val"] == 2
    assert Counter(dataset.table["split"].to_pylist())["test"] == test
    assert dataset.table.equals(load(repository, seed=1).table)
    assert any(not dataset.table.equals(load(repository, seed=seed).table) for seed in range(2, 5))


def test_columns_of_zeros_and_ones_are_attributes(tmp_path: Path) -> None:
    values = [number % 3 == 0 for number in range(40)]
    save(tmp_path / "x" / "train.parquet", rows(0, 40, wet=values, caption=["a bird"] * 40, size=list(range(40))))
    dataset = load(tmp_path / "x")
    assert [attribute.name for attribute in dataset.attributes] == ["wet"]
    assert dataset.present("wet").tolist() == values
    with pytest.raises(DataError, match="'size' holds more than 0 and 1"):
        load(tmp_path / "x", "attributes=wet,size")
    with pytest.raises(DataError, match="no column 'wt'; did you mean 'wet'"):
        load(tmp_path / "x", "attributes=wt")


def test_a_column_of_zeros_and_ones_called_as_a_base_column_is_no_attribute(tmp_path: Path) -> None:
    table = rows(0, 30, noted=False, mask=[0, 1] * 15, wet=[True, False] * 15, kind=["x", "y", "z"] * 10)
    save(tmp_path / "x" / "train.parquet", table)
    dataset = load(tmp_path / "x", "label=kind")
    assert dataset.labels.tolist() == [0, 1, 2] * 10
    assert [attribute.name for attribute in dataset.attributes] == ["wet"]
    with pytest.raises(DataError, match="'mask' is called as a column of every dataset is; rename it"):
        load(tmp_path / "x", "label=kind", "attributes=mask")


def test_columns_may_be_named(tmp_path: Path) -> None:
    table = rows(0, 30, noted=False, thumbnail=[picture(0)] * 30, coarse=["x", "y", "z"] * 10)
    save(tmp_path / "x" / "train.parquet", table.drop_columns("label"))
    with pytest.raises(DataError, match=r"2 columns hold images \(image, thumbnail\); say which with image=COLUMN"):
        load(tmp_path / "x")
    with pytest.raises(DataError, match="no column is called label; say which with label="):
        load(tmp_path / "x", "image=image")
    assert load(tmp_path / "x", "image=image", "label=coarse").classes == ("x", "y", "z")
    with pytest.raises(DataError, match="no column 'imag'; did you mean 'image'"):
        load(tmp_path / "x", "image=imag")


def test_unpacking_that_was_stopped_goes_on(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "CHUNK", 5)

    class Stopped(Exception):
        pass

    def stop_after_two(steps: Any, **_: object) -> Any:
        for number, step in enumerate(steps):
            yield step
            if number == 1:
                raise Stopped

    with pytest.raises(Stopped):
        load_dataset(f"hf:{repository}", folder=repository.parent / "work", progress=stop_after_two)
    chunks = sorted((repository.parent / "work").rglob("0000[0-9]"))
    assert [chunk.name for chunk in chunks] == ["00000", "00001"]
    before = {file: file.stat().st_mtime_ns for chunk in chunks for file in chunk.iterdir()}
    (chunks[0].parent / ".00002.partial").mkdir()
    (chunks[0].parent / ".00002.partial" / "00000010.png").write_bytes(b"half")
    chunk, spoilt = chunks[1], next(chunks[1].iterdir())
    spoilt.write_bytes(b"")
    assert numbers(load(repository)) == list(range(30))
    before = {file: time for file, time in before.items() if file.parent != chunk}
    assert all(file.stat().st_mtime_ns == time for file, time in before.items()), "chunks that are there are kept"


def test_another_version_of_the_files_is_unpacked_anew(repository: Path) -> None:
    load(repository)
    save(repository / "data" / "test-00000-of-00001.parquet", rows(100, 6))
    assert numbers(load(repository))[-6:] == list(range(100, 106))


def test_a_blank_image_is_left_for_the_quarantine(tmp_path: Path) -> None:
    table = rows(0, 30, noted=False)
    images = table["image"].to_pylist()
    images[3] = None
    save(tmp_path / "x" / "train.parquet", table.set_column(0, "image", [images]))
    assert load(tmp_path / "x").image_paths()[3].read_bytes() == b""


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"image": [{"bytes": None, "path": "/a.png"}] * 30, "label": [0, 1] * 15}), "the path of an image"),
        (pa.table({"text": ["a"] * 30, "label": [0, 1] * 15}), "no column holds images"),
        (rows(0, 30).set_column(1, "label", [[-1, *[0, 1] * 14, 0]]), "label is blank in row 1"),
        (rows(0, 3), "too few to draw val and test"),
    ],
)
def test_a_table_that_makes_no_study_is_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    if "bytes" in str(table.schema) and table["image"][0].as_py()["bytes"] is None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = table.set_column(0, "image", table["image"].cast(kind))
    save(tmp_path / "x" / "train.parquet", table)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x")


def test_damaged_and_hostile_folders_are_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "data" / "train-00000-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"train-00000-of-00002\.parquet: it does not read"):
        load(repository)
    (repository / "odd.parquet").touch()
    with pytest.raises(DataError, match=r"odd\.parquet: its name tells no split"):
        load(repository)
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]}))
    with pytest.raises(DataError, match="leads out of the dataset's folder"):
        load(hostile)
    with pytest.raises(DataError, match="there is no such folder; check the path"):
        load(tmp_path / "absent")


def test_a_name_on_the_hub_says_plainly_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"'datasets' is needed; pip install 'despur\[hf\]', or fetch it by hand"):
        load_dataset("hf:someone/birds", folder=tmp_path)


def test_a_name_on_the_hub_is_read_from_the_librarys_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load_from_hub(name: str, config: str | None) -> dict[str, Any]:
        asked.append((name, config))
        if name == "nobody/nothing":
            raise ConnectionError("no answer\nmany lines")
        save(tmp_path / "cache" / "part.arrow", rows(0, 30))
        return {"train": SimpleNamespace(cache_files=[{"filename": str(tmp_path / "cache" / "part.arrow")}])}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_from_hub))
    dataset = load_dataset("hf:someone/birds,config=small", folder=tmp_path / "work")
    assert (asked, numbers(dataset)) == ([("someone/birds", "small")], list(range(30)))
    with pytest.raises(DataError, match=r"the hub does not give it \(no answer\); check the name and the network"):
        load_dataset("hf:nobody/nothing", folder=tmp_path / "work")
