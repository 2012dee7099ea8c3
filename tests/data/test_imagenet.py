"""ImageNet's layouts, its two-class study, and its boxes; files are empty, since nothing is read while loading."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from despur.catalog import load_dataset
from despur.data.examples import Dataset
from despur.data.imagenet import load_imagenet
from despur.data.synsets import choose_synsets, thousand
from despur.errors import DataError

PACIFIER, BOTTLE = "n03825788", "n04557648"

SIZES = {"train": 8, "val": 3}


def annotation(name: str, *boxes: tuple[int, int, int, int]) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    return f"<annotation><size><width>500</width></size>{objects}</annotation>"


def write(file: Path, text: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def validation_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes in folders, eight training and three validation images each, and a third class nobody asks for."""
    number = 0
    for wnid in (PACIFIER, BOTTLE, "n02951585"):
        for image in range(SIZES["train"]):
            write(tmp_path / "train" / wnid / f"{wnid}_{image}.JPEG")
        for _ in range(SIZES["val"]):
            number += 1
            write(tmp_path / "val" / wnid / f"{validation_name(number)}.JPEG")
    return tmp_path


def images(dataset: Dataset, split: str) -> list[str]:
    return dataset.split(split).table["image"].to_pylist()


def sizes(dataset: Dataset) -> dict[tuple[str, str], int]:
    rows = dataset.table.to_pylist()
    return Counter((dataset.classes[row["label"]], row["split"]) for row in rows)


@pytest.mark.parametrize(
    "classes", [("680", "898"), (PACIFIER, BOTTLE), ("baby pacifier", "Water Bottle"), ("baby pacifier", "898")]
)
def test_a_subset_is_named_by_number_index_or_name(root: Path, classes: tuple[str, str]) -> None:
    dataset = load_imagenet(root, classes=classes, held_out=2)
    assert dataset.classes == ("baby pacifier", "water bottle")
    assert {Path(name).parent.name for name in dataset.table["image"].to_pylist()} == {PACIFIER, BOTTLE}
    assert sizes(dataset) == {
        (name, split): count for name in dataset.classes for split, count in (("train", 6), ("val", 2), ("test", 3))
    }


def test_every_class_that_is_there_is_taken_where_none_is_named(root: Path) -> None:
    assert load_imagenet(root).classes == ("can opener", "baby pacifier", "water bottle")


def test_the_official_validation_images_are_the_test_and_the_draw_goes_by_the_seed(root: Path) -> None:
    first = load_imagenet(root, classes=["680", "898"], held_out=2, seed=1)
    assert {Path(name).parts[0] for name in images(first, "test")} == {"val"}
    assert {Path(name).parts[0] for name in images(first, "val") + images(first, "train")} == {"train"}
    assert first.table.equals(load_imagenet(root, classes=["680", "898"], held_out=2, seed=1).table)
    others = [load_imagenet(root, classes=["680", "898"], held_out=2, seed=seed) for seed in range(5)]
    assert len({tuple(images(other, "val")) for other in others}) > 1
    assert all(other.ids == first.ids for other in others), "the draw moves no row, so that features stay good"


def test_the_two_class_study_holds_out_as_many_of_every_attribute_value_and_class(tmp_path: Path) -> None:
    lines = ["image,baby,note"]
    for wnid, with_baby in ((PACIFIER, 60), (BOTTLE, 40)):
        for number in range(100):
            image = f"train/{wnid}/{wnid}_{number}.JPEG"
            write(tmp_path / image)
            lines.append(f"{image},{int(number < with_baby)},x")
        write(tmp_path / f"val/{wnid}/{validation_name(1)}.JPEG")
        lines.append(f"val/{wnid}/{validation_name(1)}.JPEG,1,x")
    write(tmp_path / "babies.csv", "\n".join(lines))
    dataset = load_dataset(f"imagenet:{tmp_path},classes=680,898,attributes=babies.csv")
    assert [attribute.name for attribute in dataset.attributes] == ["baby"]
    held = dataset.split("val").groups("baby")
    assert Counter(held.tolist()) == {0: 25, 1: 25, 2: 25, 3: 25}
    assert Counter(dataset.split("train").groups("baby").tolist()) == {0: 15, 1: 35, 2: 35, 3: 15}


def test_half_of_a_value_that_few_images_have_stays_in_training(root: Path) -> None:
    rows = [
        f"{part}/{file.parent.name}/{file.name},{int(file.stem.endswith(('_0', '_1', '_2')))}"
        for part in ("train", "val")
        for file in sorted((root / part).rglob("*.JPEG"))
    ]
    write(root / "babies.csv", "\n".join(["image,baby", *rows]))
    dataset = load_dataset(f"imagenet:{root},classes=680,898,attributes=babies.csv,heldout=3")
    assert Counter(dataset.split("train").groups("baby").tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}
    assert Counter(dataset.split("val").groups("baby").tolist()) == {0: 3, 1: 1, 2: 3, 3: 1}


def test_detections_say_which_images_show_an_attribute(root: Path) -> None:
    rows = [
        f"train/{PACIFIER}/{PACIFIER}_{number}.JPEG,{phrase},0.5" for number in (1, 3) for phrase in ("baby", "cup")
    ]
    write(root / "detections.csv", "\n".join(["id,phrase,score", *rows, f"train/{BOTTLE}/{BOTTLE}_0.JPEG,cup,0.2"]))
    spec = f"imagenet:{root},classes=680,898,attributes=detections.csv"
    dataset = load_dataset(f"{spec},attribute=baby,heldout=1")
    shown = {row["id"] for row in dataset.table.to_pylist() if row["baby"]}
    assert shown == {f"train/{PACIFIER}/{PACIFIER}_{number}.JPEG" for number in (1, 3)}
    with pytest.raises(DataError, match="say which one with attribute=PHRASE"):
        load_dataset(spec)
    with pytest.raises(DataError, match="no image shows 'babe'; did you mean 'baby'"):
        load_dataset(f"{spec},attribute=babe")


@pytest.mark.parametrize("home", ["ILSVRC/Data/CLS-LOC", "ILSVRC"])
def test_kaggles_folders_and_its_list_of_validation_classes_are_understood(tmp_path: Path, home: str) -> None:
    lines = ["ImageId,PredictionString"]
    for number, wnid in enumerate((PACIFIER, BOTTLE, BOTTLE, "n02951585"), start=1):
        write(tmp_path / home / "train" / wnid / f"{wnid}_{number}.JPEG")
        write(tmp_path / home / "train" / wnid / f"{wnid}_{number + 10}.JPEG")
        write(tmp_path / home / "val" / f"{validation_name(number)}.JPEG")
        lines.append(f"{validation_name(number)},{wnid} 1 2 3 4 ")
    write(tmp_path / "LOC_val_solution.csv", "\n".join(lines))
    dataset = load_imagenet(tmp_path, classes=["680", "898"])
    assert [(Path(row["image"]).stem, row["label"]) for row in dataset.split("test").table.to_pylist()] == [
        (validation_name(1), 0),
        (validation_name(2), 1),
        (validation_name(3), 1),
    ]


def test_boxes_come_from_the_xml_files_wherever_a_download_puts_them(root: Path) -> None:
    boxes = root / "Annotations" / "CLS-LOC"
    train, test = f"train/{PACIFIER}/{PACIFIER}_0.JPEG", f"val/{PACIFIER}/{validation_name(1)}.JPEG"
    write(boxes / "train" / PACIFIER / f"{PACIFIER}_0.xml", annotation(PACIFIER, (10, 20, 110, 220)))
    write(boxes / "val" / f"{validation_name(1)}.xml", annotation(PACIFIER, (1, 2, 3, 4), (5, 6, 50, 60)))
    dataset = load_imagenet(root, classes=["680", "898"])
    found = {row["image"]: row["box"] for row in dataset.table.to_pylist() if row["box"]}
    assert found == {train: [10, 20, 110, 220], test: [5, 6, 50, 60]}, "of several objects, the largest"
    (root / "Annotations").rename(root / "elsewhere")
    assert load_imagenet(root, classes=["680", "898"]).table["box"].null_count == len(dataset)
    assert (
        load_dataset(f"imagenet:{root},classes=680,898,boxes=elsewhere/CLS-LOC")
        .table["box"]
        .equals(dataset.table["box"])
    )


def test_an_object_of_another_class_gives_the_box_only_where_there_is_no_other(root: Path) -> None:
    boxes = root / "boxes"
    both = annotation("n00000001", (0, 0, 400, 400)).replace("</annotation>", "") + annotation(
        PACIFIER, (1, 1, 9, 9)
    ).removeprefix("<annotation>")
    write(boxes / f"{PACIFIER}_0.xml", both)
    write(boxes / f"{PACIFIER}_1.xml", annotation("pacifier", (2, 2, 8, 8)))
    write(boxes / f"{PACIFIER}_2.xml", annotation(PACIFIER, (8, 8, 8, 8)))
    found = [row["box"] for row in load_imagenet(root, classes=["680", "898"]).table.slice(0, 3).to_pylist()]
    assert found == [[1, 1, 9, 9], [2, 2, 8, 8], None]


def test_what_an_unpacker_hides_beside_the_images_is_no_image(root: Path) -> None:
    write(root / "train" / PACIFIER / f"._{PACIFIER}_0.JPEG")  # macOS leaves these
    write(root / "val" / BOTTLE / f"._{validation_name(1)}.JPEG")
    assert not any("._" in name for name in load_imagenet(root, classes=["680", "898"]).ids)


@pytest.mark.parametrize("text", ["<annotation>", annotation("x", (1, 1, 2, 2)).replace("2<", "two<"), ""])
def test_an_annotation_that_cannot_be_read_is_named(root: Path, text: str) -> None:
    write(root / "boxes" / f"{PACIFIER}_0.xml", text)
    with pytest.raises(DataError, match=rf"{PACIFIER}_0\.xml: it does not read as a Pascal VOC annotation"):
        load_imagenet(root, classes=["680", "898"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["680", "baby pacifer"], r"no class 'baby pacifer'; did you mean 'baby pacifier'\?"),
        (["680", "xyzzy"], "no class 'xyzzy'; choose from tench, goldfish, .* and 960 more"),
        (["1000", "680"], "no class '1000'"),
        (["n00000001", "680"], "no class 'n00000001'; give a name"),
        (["680", PACIFIER], rf"'{PACIFIER}' \({PACIFIER}\) is given twice"),
    ],
)
def test_a_class_that_cannot_be_meant_is_named(words: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_synsets(words, where="imagenet:x")


def test_no_two_of_the_thousand_have_one_name_by_which_discrepancies_and_verdicts_know_them() -> None:
    names = thousand()
    assert len({name.casefold() for name in names.values()}) == len(names) == 1000
    assert [names[wnid] for wnid in ("n03773504", "n04008634")] == ["missile", "projectile"]
    assert [names[wnid] for wnid in ("n04355933", "n04356056")] == ["sunglass", "sunglasses"]
    assert choose_synsets(list(names.values()), where="imagenet:x") == list(names)


def test_the_thousand_are_in_the_benchmarks_order() -> None:
    assert [list(thousand()).index(wnid) for wnid in (PACIFIER, BOTTLE, "n02951585", "n03658185")] == [
        680,
        898,
        473,
        623,
    ]


def test_a_tree_that_is_not_imagenets_is_refused(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        load_imagenet(tmp_path / "absent")
    with pytest.raises(DataError, match=r"the class n03658185 \(letter opener\) has no folder"):
        load_imagenet(root, classes=["680", "letter opener"])
    (tmp_path / "val").rename(tmp_path / "later")
    with pytest.raises(DataError, match="it has train/ but no val/"):
        load_imagenet(root)
    (tmp_path / "val").mkdir()
    write(tmp_path / "val" / f"{validation_name(1)}.JPEG")
    with pytest.raises(DataError, match=r"nothing says which class the image shows; sort val/ into class folders"):
        load_imagenet(root)
    with pytest.raises(DataError, match="name the table or detections with attributes=FILE"):
        load_imagenet(root, attribute=["baby"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,baby\na.jpg,1\n", f"it has no row for the image 'train/{PACIFIER}/{PACIFIER}_0.JPEG'"),
        ("file,baby\na.jpg,1\n", "neither a column 'image' nor 'id'"),
    ],
)
def test_a_list_of_attributes_that_does_not_fit_is_refused(root: Path, table: str, message: str) -> None:
    write(root / "babies.csv", table)
    with pytest.raises(DataError, match=message):
        load_dataset(f"imagenet:{root},classes=680,898,attributes=babies.csv")
