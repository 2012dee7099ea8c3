from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from despur.catalog import load_dataset
from despur.data.fiftyone import load_fiftyone
from despur.errors import DataError

Sample = dict[str, Any]


def classified(label: str) -> Sample:
    return {"_id": {"$oid": "65a0"}, "_cls": "Classification", "tags": [], "label": label, "confidence": None}


def detected(label: str, box: list[float]) -> Sample:
    return {"_cls": "Detection", "label": label, "bounding_box": box, "confidence": 0.9}


def sample(name: str, label: str, split: str | None, *detections: Sample, **fields: Any) -> Sample:
    """A sample as FiftyOne writes it, Mongo's ids included."""
    return {
        "_id": {"$oid": "65a1"},
        "filepath": f"data/{name}.jpg",
        "tags": [] if split is None else [split],
        "metadata": None,
        "ground_truth": classified(label),
        "predictions": {"_cls": "Detections", "detections": list(detections)},
        **fields,
    }


def write(root: Path, samples: list[Sample], *, size: tuple[int, int] = (40, 20)) -> Path:
    (root / "data").mkdir(parents=True)
    for one in samples:
        Image.new("RGB", size).save(root / one["filepath"])
    (root / "metadata.json").write_text(json.dumps({"version": "1.4.0", "name": "birds"}))
    (root / "samples.json").write_text(json.dumps({"samples": samples}))
    return root


BIRDS = [
    sample("a", "gull", "train", detected("sea", [0, 0, 1, 1]), has_water=True),
    sample("b", "wren", "train", detected("tree", [0, 0, 1, 1]), has_water=False),
    sample("c", "gull", "validation", detected("gull", [0.25, 0.5, 0.5, 0.25]), has_water=False),
    sample("d", "wren", "test", has_water=True),
]


def test_tags_are_splits_and_fields_of_yes_and_no_are_attributes(tmp_path: Path) -> None:
    dataset = load_dataset(f"fiftyone:{write(tmp_path / 'set', BIRDS)}")
    assert dataset.classes == ("gull", "wren")
    assert dataset.table["split"].to_pylist() == ["train", "train", "val", "test"]
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    assert [(a.name, a.phrase) for a in dataset.attributes] == [("water", "with water")]
    assert dataset.present("water").tolist() == [True, False, False, True]
    assert all(path.is_file() for path in dataset.image_paths())


def test_labels_of_detections_and_tags_may_be_attributes(tmp_path: Path) -> None:
    samples = [
        {**one, "tags": [*one["tags"], *(["blurred"] if number == 3 else [])]} for number, one in enumerate(BIRDS)
    ]
    dataset = load_dataset(f"fiftyone:{write(tmp_path / 'set', samples)},attributes=sea,blurred")
    assert dataset.present("sea").tolist() == [True, False, False, False]
    assert dataset.present("blurred").tolist() == [False, False, False, True]


def test_the_box_is_that_of_the_class_in_pixels_of_the_upright_image(tmp_path: Path) -> None:
    root = write(tmp_path / "set", BIRDS)
    boxes = load_fiftyone(root, box="predictions").table["box"].to_pylist()
    assert boxes == [None, None, [10.0, 10.0, 30.0, 15.0], None]
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 20)).save(root / "data" / "c.jpg", exif=turned)
    assert load_fiftyone(root, box="predictions").table["box"].to_pylist()[2] == [5.0, 20.0, 15.0, 30.0]


def test_without_split_tags_splits_are_drawn_by_the_seed(tmp_path: Path) -> None:
    samples = [sample(f"{name}{number}", name, None) for name in ("gull", "wren") for number in range(10)]
    root = write(tmp_path / "set", samples)
    drawn = load_fiftyone(root, seed=1).table["split"].to_pylist()
    assert drawn == load_fiftyone(root, seed=1).table["split"].to_pylist()
    assert drawn != load_fiftyone(root, seed=2).table["split"].to_pylist()
    assert [drawn.count(split) for split in ("train", "val", "test")] == [16, 2, 2]


def test_the_field_of_the_class_may_be_another(tmp_path: Path) -> None:
    samples = [{**one, "species": one["ground_truth"]} for one in BIRDS]
    for one in samples:
        del one["ground_truth"]
    root = write(tmp_path / "set", samples)
    with pytest.raises(DataError, match=r"sample 1 has no class in 'ground_truth'.*label=FIELD"):
        load_fiftyone(root)
    assert load_fiftyone(root, label="species").classes == ("gull", "wren")


def test_media_outside_the_folder_need_leave(tmp_path: Path) -> None:
    root = write(tmp_path / "set", BIRDS)
    samples = [{**one, "filepath": str(tmp_path / "set" / one["filepath"])} for one in BIRDS]
    (root / "samples.json").write_text(json.dumps({"samples": samples}))
    assert load_fiftyone(root).ids == ["data/a.jpg", "data/b.jpg", "data/c.jpg", "data/d.jpg"]
    (root / "data").rename(tmp_path / "elsewhere")
    moved = [{**one, "filepath": one["filepath"].replace("set/data", "elsewhere")} for one in samples]
    (root / "samples.json").write_text(json.dumps({"samples": moved}))
    with pytest.raises(DataError, match="leads out"):
        load_fiftyone(root)
    assert load_fiftyone(root, allow_outside=True).image_paths()[0].is_file()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "does not read as JSON"),
        ("[" * 100_000, "does not read as JSON"),
        ("[]", "lists no samples"),
        ('{"samples": []}', "lists no samples"),
        ('{"samples": [3]}', "lists no samples"),
        ('{"samples": [{"filepath": "a.jpg"}]}', "sample 1 has no class"),
        ('{"samples": [{"ground_truth": {"label": "gull"}}]}', "sample 1 has no filepath"),
    ],
)
def test_what_is_no_dataset_of_theirs_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(DataError, match=told):
        load_fiftyone(tmp_path)


def test_a_sample_of_no_split_or_two_a_box_that_is_none_and_unknown_names_are_told(tmp_path: Path) -> None:
    untagged = write(tmp_path / "untagged", [*BIRDS, sample("e", "gull", None, has_water=True)])
    with pytest.raises(DataError, match="tags of sample 5 name 0 splits"):
        load_fiftyone(untagged)
    for number, box in enumerate(([0.5], [0.0, 0.0, float("nan"), 0.5], [0.0, 0.0, True, 0.5])):
        fifth = sample("e", "gull", "train", detected("gull", box), has_water=True)
        boxless = write(tmp_path / f"boxless{number}", [*BIRDS, fifth])
        with pytest.raises(DataError, match="box of sample 5"):
            load_fiftyone(boxless, box="predictions")
    with pytest.raises(DataError, match="no sample has detections in 'boxes'"):
        load_fiftyone(boxless, box="boxes")
    with pytest.raises(DataError, match=r"no sample has a tag or detection 'seas'.*'sea'"):
        load_fiftyone(boxless, attributes=["seas"])


def boxed(root: Path, box: object, *more: Sample) -> Path:
    found = [{"_cls": "Detection", "label": "gull", "bounding_box": box}, *more]
    birds = [{**BIRDS[0], "predictions": {"_cls": "Detections", "detections": found}}, *BIRDS[1:]]
    return write(root, birds)


@pytest.mark.parametrize("nowhere", [None, []])
def test_a_detection_without_a_place_is_passed_over(tmp_path: Path, nowhere: object) -> None:
    alone = load_fiftyone(boxed(tmp_path / "alone", nowhere), box="predictions")
    assert alone.table["box"].to_pylist()[0] is None
    two = load_fiftyone(boxed(tmp_path / "two", nowhere, detected("gull", [0, 0, 0.5, 1])), box="predictions")
    assert two.table["box"].to_pylist()[0] == [0, 0, 20, 20]


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 1], [0, 0, 1, -1], [0, 0, 1e308, 1], [0, 0, 10**400, 1], [10, 10, 30, 15], ["0", 0, 1, 1], "0011"]
)
def test_a_box_without_area_or_in_pixels_is_told(tmp_path: Path, box: object) -> None:
    with pytest.raises(DataError, match="the box of sample 1"):
        load_fiftyone(boxed(tmp_path / "set", box), box="predictions")


def test_a_box_may_reach_beyond_the_picture(tmp_path: Path) -> None:
    dataset = load_fiftyone(boxed(tmp_path / "set", [-0.1, 0, 0.6, 1.2]), box="predictions")
    assert dataset.table["box"].to_pylist()[0] == pytest.approx([-4, 0, 20, 24])


def test_files_of_windows_are_read(tmp_path: Path) -> None:
    root = write(tmp_path / "set", BIRDS)
    theirs = [{**one, "filepath": one["filepath"].replace("/", "\\")} for one in BIRDS]
    (root / "samples.json").write_text(json.dumps({"samples": theirs}), encoding="utf-8-sig")
    dataset = load_fiftyone(root)
    assert [path.exists() for path in dataset.image_paths()] == [True] * 4


def test_a_class_that_is_detections_and_an_attribute_that_some_samples_lack_are_told(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [*BIRDS[:3], {name: said for name, said in BIRDS[3].items() if name != "has_water"}])
    assert load_fiftyone(root).attributes == ()
    with pytest.raises(DataError, match="sample 4 does not say whether it has 'water'"):
        load_fiftyone(root, attributes=["water"])
    with pytest.raises(DataError, match="'predictions' of sample 1 holds detections and no class"):
        load_fiftyone(root, label="predictions")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ground_truth": classified("\ud83d")}, "no text"),
        ({"ground_truth": classified(" ")}, "blank"),
        ({"filepath": "data/\ud83d.jpg"}, "no text"),
    ],
)
def test_names_that_no_file_can_hold_are_told(tmp_path: Path, change: Sample, told: str) -> None:
    root = write(tmp_path / "set", BIRDS)
    (root / "samples.json").write_text(
        json.dumps({"samples": [*({**one, **change} for one in BIRDS[::2]), *BIRDS[1::2]]})
    )
    with pytest.raises(DataError, match=told):
        load_fiftyone(root)


def test_a_field_that_is_called_has_and_nothing_else_is_no_attribute(tmp_path: Path) -> None:
    root = write(tmp_path / "set", [{**one, "has_": True} for one in BIRDS])
    assert [attribute.name for attribute in load_fiftyone(root).attributes] == ["water"]


def test_two_fields_that_would_be_one_attribute_are_refused(tmp_path: Path) -> None:
    both = write(tmp_path / "both", [{**one, "water": False} for one in BIRDS])
    with pytest.raises(DataError, match="'water' and 'has_water' are one attribute"):
        load_fiftyone(both)
