"""Datasets small enough to check by eye, in the formats that people really have."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from despur.birdland.write import write_birds


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small models gain nothing from threads, and with one the order of every sum is fixed: same bytes each time."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def ray_at_our_priority() -> None:
    """Ray gives its workers a low priority, at which they would wait for minutes beside other tests."""
    os.environ.setdefault("RAY_worker_niceness", "0")


def _resident(which: str) -> int:
    """Bytes of this process in memory, as Linux counts them: ``VmRSS`` now, ``VmHWM`` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


@pytest.fixture
def within_a_gigabyte() -> Iterator[None]:
    """A test may take no more than 1 GiB of memory at any moment; not judged where Linux does not count it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
    except OSError:
        yield
        return
    before = _resident("VmRSS")
    yield
    assert _resident("VmHWM") - before < 2**30


LANDBIRD, WATERBIRD = "001.Sparrow", "002.Gull"

WATERBIRDS_GROUPS = {0: (6, 3, 3, 6), 1: (3, 3, 3, 3), 2: (3, 3, 2, 2)}
"""Images of (landbird on land, landbird on water, waterbird on land, waterbird on water) by split number."""


def _write_waterbird(root: Path, name: str, *, y: int, place: int, box: tuple[int, int, int, int]) -> None:
    """A photograph of 24 x 16 pixels: a brown or white bird that fills its box, on green or blue; and its mask."""
    photo = root / "waterbird_complete95_forest2water2" / name
    mask = (root / "segmentations" / name).with_suffix(".png")
    for file in (photo, mask):
        file.parent.mkdir(parents=True, exist_ok=True)
    x0, y0, x1, y1 = box
    image = Image.new("RGB", (24, 16), ((30, 120, 30), (30, 60, 200))[place])
    ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=((120, 80, 40), (240, 240, 240))[y])
    image.save(photo, quality=95)
    shape = Image.new("L", (24, 16))
    ImageDraw.Draw(shape).rectangle((x0, y0, x1 - 1, y1 - 1), fill=255)
    shape.save(mask)


@pytest.fixture(scope="session")
def waterbirds_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Waterbirds as its authors pack it (40 images) and, beside it, CUB's masks and boxes.

    Shared by the whole session: copy it before you change it.
    """
    home = tmp_path_factory.mktemp("waterbirds home")
    rows: list[dict[str, object]] = []
    boxes: list[str] = []
    for split, sizes in WATERBIRDS_GROUPS.items():
        for group, size in enumerate(sizes):
            for _ in range(size):
                y, place = divmod(group, 2)
                number = len(rows) + 1
                name = f"{(LANDBIRD, WATERBIRD)[y]}/{number:04d}.jpg"
                box = (2 + number % 5, 3, 12 + number % 5, 13)
                _write_waterbird(home, name, y=y, place=place, box=box)
                rows.append(
                    {
                        "img_id": number,
                        "img_filename": name,
                        "y": y,
                        "split": split,
                        "place": place,
                        "place_filename": "/b/bamboo_forest/1.jpg",
                    }
                )
                boxes.append(f"{number} {box[0]}.0 {box[1]}.0 10.0 10.0")
    with (home / "waterbird_complete95_forest2water2" / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (home / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    return home


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """119 scenes of birdland as the Waterbirds download looks; copy before changing."""
    folder = tmp_path_factory.mktemp("world") / "birds"
    write_birds(folder, scale=0.01, workers=1)
    return folder


@pytest.fixture
def own_birds(birds: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(birds, tmp_path / "birds"))
