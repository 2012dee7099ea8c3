"""What another tool is handed: read back by our own reader of its layout, and held against the workspace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from despur.data.fiftyone import load_fiftyone
from despur.data.images import read_image
from despur.detect.schema import SCHEMA
from despur.errors import SettingsError
from despur.explain.maps import upsample_maps
from despur.explain.methods import GRADCAM
from despur.mitigate.runs import load_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.fiftyone import write_fiftyone
from despur.pipeline.strips import Seen
from despur.pipeline.training import FEATURES
from despur.workspace import Workspace, read_json, read_parquet, write_json, write_parquet


def samples_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "samples.json").read_text())["samples"]


def test_read_back_it_is_the_same_dataset(finished: Embedded, tmp_path: Path) -> None:
    done = write_fiftyone(finished, tmp_path / "out", copy=True)
    assert done.samples == len(finished.dataset)
    back = load_fiftyone(tmp_path / "out", box="object")
    whole = finished.dataset
    assert back.classes == whole.classes
    for column in ("label", "split", "water"):
        assert back.table[column].to_pylist() == whole.table[column].to_pylist()
    boxes = zip(back.table["box"].to_pylist(), whole.table["box"].to_pylist(), strict=True)
    assert all(found == pytest.approx(known, abs=1e-3) for found, known in boxes)
    assert str(whole.root) not in (tmp_path / "out" / "metadata.json").read_text()
    pictures = zip(back.image_paths(), whole.image_paths(), strict=True)
    assert all(copied.read_bytes() == original.read_bytes() for copied, original in pictures)


def test_without_copies_images_are_named_where_they_lie(finished: Embedded, tmp_path: Path) -> None:
    write_fiftyone(finished, tmp_path / "out", split="test")
    test = finished.dataset.split("test")
    samples = samples_of(tmp_path / "out")
    assert [sample["despur_id"] for sample in samples] == test.ids
    assert [Path(sample["filepath"]) for sample in samples] == test.image_paths()
    assert not (tmp_path / "out" / "data").exists()


def test_every_run_says_a_class_and_how_sure_it_is(finished: Embedded, tmp_path: Path) -> None:
    done = write_fiftyone(finished, tmp_path / "out")
    predictions = read_parquet(finished.workspace.path("predictions.parquet"))
    samples = samples_of(tmp_path / "out")
    said = [sample["pretrained"]["label"] for sample in samples]
    assert said == [finished.dataset.classes[label] for label in predictions["predicted"].to_pylist()]
    assert all(0.5 <= sample["pretrained"]["confidence"] <= 1 for sample in samples)
    assert {name.replace("-", "_").replace("+", "_") for name in done.runs} <= set(samples[0])


def test_maps_are_the_own_class_laid_over_the_photograph(finished: Embedded, tmp_path: Path) -> None:
    done = write_fiftyone(finished, tmp_path / "out", split="test", maps=True)
    assert done.maps is not None
    field = "map_" + done.maps.replace("-", "_").replace("+", "_")
    sample = samples_of(tmp_path / "out")[3]
    drawn = np.asarray(Image.open(sample[field]["map_path"])) / 255
    row = finished.dataset.split("test").rows(np.array([3]))
    run = load_run(finished.workspace.path("runs", done.maps))
    seen = Seen(finished, row, {done.maps: run.heads}, GRADCAM).maps[done.maps]
    framing = finished.backbone.framing
    window = upsample_maps(seen, (framing.height, framing.width))[0].numpy()
    expected = framing.uncropped(window, read_image(row.image_paths()[0]).size)
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected).max() < 0.01
    assert drawn.max() > 0.5


def test_detections_keep_score_and_place_and_those_without_a_place_fill_the_image(
    own_work: Path, finished: Embedded, tmp_path: Path
) -> None:
    first = finished.dataset.ids[0]
    width, height = read_image(finished.dataset.image_paths()[0]).size
    rows = [
        {"id": first, "phrase": "lake", "score": 0.75, "x0": 0.0, "y0": height / 2, "x1": width / 4, "y1": height},
        {"id": first, "phrase": "sea", "score": 1.0, "x0": None, "y0": None, "x1": None, "y1": None},
    ]
    write_parquet(own_work / "detections.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))
    write_fiftyone(Embedded(Workspace.open(own_work), torch.device("cpu"), finished.backbone), tmp_path / "out")
    samples = samples_of(tmp_path / "out")
    lake, sea = samples[0]["detections"]["detections"]
    assert lake == {"_cls": "Detection", "label": "lake", "bounding_box": [0.0, 0.5, 0.25, 0.5], "confidence": 0.75}
    assert sea["bounding_box"] == [0.0, 0.0, 1.0, 1.0]
    assert samples[1]["detections"]["detections"] == []


def test_runs_of_an_earlier_embedding_are_left_out_and_the_images_are_not(
    own_work: Path, finished: Embedded, tmp_path: Path
) -> None:
    for file in own_work.glob("runs/*/config.json"):
        write_json(file, {**read_json(file), FEATURES: "another"})
    own = Embedded(Workspace.open(own_work), torch.device("cpu"), finished.backbone)
    done = write_fiftyone(own, tmp_path / "out", split="test")
    assert (done.runs, done.samples) == ((), len(own.dataset.split_rows("test")))


def test_a_folder_that_holds_something_is_left_alone(finished: Embedded, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="something there already"):
        write_fiftyone(finished, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
