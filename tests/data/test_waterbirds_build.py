"""Waterbirds made from tiny CUB and Places trees in their true formats."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from despur.catalog import load_dataset
from despur.data.images import read_image, read_mask
from despur.data.waterbirds import load_waterbirds
from despur.data.waterbirds_build import build_waterbirds, place_bird
from despur.data.waterbirds_plan import is_waterbird
from despur.errors import DataError, SettingsError

SPECIES = ("001.Western_Meadowlark", "002.Western_Gull")
EACH = {"train": 25, "test": 10}
BIRD = (200, 30, 30)
LAND, WATER = (30, 200, 30), (30, 30, 200)
BOX = (6, 4, 14, 12)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)


def picture(file: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 16)) -> Image.Image:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.save(file, quality=95)
    return image


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """Two species, 35 images each: a red bird on grey; its masks lie beside, as they are downloaded apart."""
    root = tmp_path / "CUB_200_2011"
    names: list[str] = []
    trained: list[int] = []
    for species in SPECIES:
        for split, count in EACH.items():
            for _ in range(count):
                name = f"{species}/{species[4:]}_{len(names):04d}.jpg"
                image = picture(root / "images" / name, (128, 128, 128))
                ImageDraw.Draw(image).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=BIRD)
                image.save(root / "images" / name, quality=95)
                mask = Image.new("L", image.size)
                ImageDraw.Draw(mask).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=255)
                file = (tmp_path / "segmentations" / name).with_suffix(".png")
                file.parent.mkdir(parents=True, exist_ok=True)
                mask.save(file)
                names.append(name)
                trained.append(int(split == "train"))
    numbered = list(enumerate(names, start=1))
    (root / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in numbered))
    (root / "train_test_split.txt").write_text("".join(f"{n} {flag}\n" for n, flag in enumerate(trained, start=1)))
    width, height = BOX[2] - BOX[0], BOX[3] - BOX[1]
    boxes = "".join(f"{number} {BOX[0]}.0 {BOX[1]}.0 {width}.0 {height}.0\n" for number, _ in numbered)
    (root / "bounding_boxes.txt").write_text(boxes)
    return root


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Forty photographs a category, as Places365 unpacks."""
    for category, colour in (
        ("b/bamboo_forest", LAND),
        ("f/forest/broadleaf", LAND),
        ("o/ocean", WATER),
        ("l/lake/natural", WATER),
    ):
        for number in range(40):
            picture(tmp_path / "places" / "data_large" / category / f"{number:08d}.jpg", colour, (30, 40))
    return tmp_path / "places"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def test_what_is_built_is_read_as_waterbirds(cub: Path, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = build_waterbirds(cub, places, out)
    assert (built.images, built.unreadable) == (70, 0)
    dataset = load_dataset(f"waterbirds:{out}")
    assert dataset.table["mask"].null_count == dataset.table["box"].null_count == 0
    sizes = {name: np.bincount(dataset.split(name).groups("water")).tolist() for name in ("train", "val", "test")}
    assert sizes == {"train": [19, 1, 1, 19], "val": [3, 2, 2, 3], "test": [5, 5, 5, 5]}
    for row, path in zip(dataset.table.to_pylist(), dataset.image_paths(), strict=True):
        pixels = np.asarray(read_image(path), dtype=int)
        inside = np.zeros(pixels.shape[:2], dtype=bool)
        inside[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
        assert row["box"] == [*map(float, BOX)]
        assert np.array_equal(read_mask(dataset.root / row["mask"]), inside)
        # Away from the edge, where JPEG blends colours, the bird is CUB's and all around it is the place.
        assert np.abs(pixels[7:9, 9:11] - BIRD).max() < 12
        assert np.abs(pixels[:2, :3] - (WATER if row["water"] else LAND)).max() < 12


def test_labels_go_by_whole_words() -> None:
    species = [
        "015.Western_Meadowlark",
        "064.Ring_billed_Gull",
        "086.Pacific_Loon",
        "143.Caspian_Tern",
        "105.Whip_poor_Will",
    ]
    assert [is_waterbird(name) for name in species] == [False, True, True, True, False]


def test_the_share_and_the_seed_are_kept(cub: Path, places: Path, tmp_path: Path) -> None:
    build_waterbirds(cub, places, tmp_path / "a", share=0.75, seed=3)
    build_waterbirds(cub, places, tmp_path / "b", share=0.75, seed=3)
    build_waterbirds(cub, places, tmp_path / "c", share=0.75, seed=4)
    assert np.bincount(load_waterbirds(tmp_path / "a").split("train").groups("water")).tolist() == [15, 5, 5, 15]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


def test_no_background_is_used_twice_where_there_are_enough(cub: Path, places: Path, tmp_path: Path) -> None:
    build_waterbirds(cub, places, tmp_path / "out")
    assert max(Counter(row["place_filename"] for row in rows(tmp_path / "out")).values()) == 1


def test_few_backgrounds_are_used_again_but_never_in_two_splits(cub: Path, places: Path, tmp_path: Path) -> None:
    for file in places.rglob("*.jpg"):
        if int(file.stem) >= 4:
            file.unlink()
    build_waterbirds(cub, places, tmp_path / "out")
    splits = {(row["place_filename"], row["split"]) for row in rows(tmp_path / "out")}
    assert len(splits) == len({name for name, _ in splits}) <= 16


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(cub: Path, places: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(steps: Any, **_: object) -> Any:
        for number, step in enumerate(steps):
            yield step
            if number == 9:
                raise Stopped

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        build_waterbirds(cub, places, out, workers=1, progress=stop)
    assert not (out / "metadata.csv").exists()
    with pytest.raises(DataError, match=r"there is no metadata\.csv"):
        load_waterbirds(out)
    kept = {file: file.stat().st_mtime_ns for file in out.rglob("*.jpg")}
    assert len(kept) >= 10
    build_waterbirds(cub, places, out)
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    build_waterbirds(cub, places, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_bird_that_does_not_read_is_left_out_and_named(cub: Path, places: Path, tmp_path: Path) -> None:
    spoilt = sorted((cub / "images").rglob("*.jpg"))[5]
    spoilt.write_bytes(b"")
    with pytest.raises(DataError, match="1 of 70 images cannot be read"):
        build_waterbirds(cub, places, tmp_path / "out")
    built = build_waterbirds(cub, places, tmp_path / "out", max_unreadable=0.05)
    assert (built.images, built.unreadable) == (69, 1)
    assert spoilt.name not in {Path(row["img_filename"]).name for row in rows(tmp_path / "out")}


def test_a_mask_is_a_blend_where_annotators_differ() -> None:
    bird, background = Image.new("RGB", (3, 1), (200, 0, 0)), Image.new("RGB", (9, 9), (0, 0, 100))
    mask = Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8))
    assert np.asarray(place_bird(bird, mask, background)).tolist() == [[[0, 0, 100], [40, 0, 80], [200, 0, 0]]]


def test_what_is_missing_is_named(cub: Path, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"there is no images\.txt in it; name the folder CUB_200_2011"):
        build_waterbirds(places, places, out)
    with pytest.raises(
        DataError, match=r"no photographs of 'bamboo_forest'; unpack Places365 so that b/bamboo_forest/"
    ):
        build_waterbirds(cub, cub, out)
    with pytest.raises(SettingsError, match=r"--share: 1\.5 is no share; give one from 0 to 1"):
        build_waterbirds(cub, places, out, share=1.5)
    (tmp_path / "segmentations").rename(tmp_path / "masks")
    with pytest.raises(DataError, match="there is no segmentations/ in or beside it"):
        build_waterbirds(cub, places, out)
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_alone(cub: Path, places: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match="it is there already and holds something else"):
        build_waterbirds(cub, places, tmp_path / "mine")
    build_waterbirds(cub, places, tmp_path / "out")
    with pytest.raises(DataError, match="begun with another seed, share or sources"):
        build_waterbirds(cub, places, tmp_path / "out", seed=1)
