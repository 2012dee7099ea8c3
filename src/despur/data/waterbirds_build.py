"""Waterbirds from its two sources: birds cut from CUB by their masks, before photographs of Places."""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image, ImageOps

from despur.data.examples import SPLITS
from despur.data.images import UnreadableImage, read_image
from despur.data.paths import absolute
from despur.data.quarantine import MAX_UNREADABLE, check_share, check_unreadable, quarantine_table
from despur.data.waterbirds import COLUMNS
from despur.data.waterbirds_plan import Scene, find_backgrounds, plan_scenes, read_birds
from despur.errors import DataError, SettingsError
from despur.progress import Progress, silent
from despur.workspace import fingerprint, read_json, write_json, write_parquet, write_whole
from despur.workspace.files import cannot_write

NOTE, LAST = "build.json", "metadata.csv"


@dataclass(frozen=True)
class Built:
    """How many images a build holds, and how many of the birds were left out because something did not read."""

    images: int
    unreadable: int


def build_waterbirds(
    cub: Path,
    places: Path,
    out: Path,
    *,
    share: float = 0.95,
    seed: int = 0,
    max_unreadable: float = MAX_UNREADABLE,
    workers: int | None = None,
    progress: Progress = silent,
) -> Built:
    """Write a Waterbirds: images, ``segmentations/``, CUB's lists of names and boxes, and ``metadata.csv`` last.

    An image that is there already is kept, so that the same call goes on where one was stopped, and a finished folder
    is left as it is. A bird is kept out, and noted in ``quarantine.parquet``, where it, its mask or its background does
    not read.

    Args:
        cub: ``CUB_200_2011/``, with ``segmentations/`` inside or beside it.
        places: Places365, in any of its downloads' layouts.
        out: made where missing.
        share: of each class's training images before their own place, in [0, 1]; validation and test are balanced.
        seed: draws the validation images, the places and the backgrounds.
        max_unreadable: accepted share of birds left out.
        workers: threads; None: one a processor.

    Raises:
        DataError: a source is not as described, ``out`` holds something else, or too much does not read.
        SettingsError: the share is no fraction or the seed is below 0.
        WorkspaceError: the folder cannot be written, or the disk is full.
    """
    if not 0 <= share <= 1:
        raise SettingsError(f"{share:g} is no share", where="--share", now="give one from 0 to 1")
    if seed < 0:
        raise SettingsError(f"{seed} is no seed", where="--seed", now="give one of 0 or more")
    check_share(max_unreadable)
    cub, places, out = _cub(absolute(cub)), absolute(places), absolute(out)
    masks = next((home / "segmentations" for home in (cub, cub.parent) if (home / "segmentations").is_dir()), None)
    if masks is None:
        raise DataError("there is no segmentations/ in or beside it", where=cub, now="unpack CUB's segmentations there")
    scenes = plan_scenes(read_birds(cub, seed), find_backgrounds(places), share=share, seed=seed)
    _claim(out, fingerprint([[scene.bird.image, scene.bird.split, scene.water, scene.background] for scene in scenes]))
    try:
        with FileLock(out / ".build.lock", timeout=0):
            if not (out / LAST).exists():
                _build(scenes, cub, masks, places, out, max_unreadable, workers or os.cpu_count() or 1, progress)
    except Timeout as error:
        raise DataError("another process is writing it", where=out, now="wait until that one is done") from error
    with (out / LAST).open(encoding="utf-8") as file:
        kept = sum(1 for _ in file) - 1
    return Built(kept, len(scenes) - kept)


def _cub(folder: Path) -> Path:
    for home in (folder, folder / "CUB_200_2011"):
        if (home / "images.txt").is_file():
            return home
    raise DataError("there is no images.txt in it", where=folder, now="name the folder CUB_200_2011")


def _claim(out: Path, plan: str) -> None:
    """Note in the folder which scenes it holds; a folder that holds anything else is refused."""
    if (out / NOTE).is_file():
        if read_json(out / NOTE) != {"plan": plan}:
            raise DataError(
                "it was begun with another seed, share or sources", where=out, now="name another folder or delete it"
            )
        return
    if out.exists() and (not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())):
        raise DataError("it is there already and holds something else", where=out, now="name an empty or new folder")
    write_json(out / NOTE, {"plan": plan})


def _build(
    scenes: Sequence[Scene],
    cub: Path,
    masks: Path,
    places: Path,
    out: Path,
    max_unreadable: float,
    workers: int,
    progress: Progress,
) -> None:
    def one(scene: Scene) -> str | None:
        return _write_scene(scene, cub, masks, places, out)

    with ThreadPoolExecutor(workers) as pool:
        try:
            reasons = list(progress(pool.map(one, scenes), total=len(scenes), label="placing birds", unit="birds"))
        finally:
            pool.shutdown(cancel_futures=True)
    if os.name != "nt":
        os.sync()  # image by image it would take longer than drawing them
    lost = [
        (scene.bird.number, scene.bird.image, reason)
        for scene, reason in zip(scenes, reasons, strict=True)
        if reason is not None
    ]
    quarantine = quarantine_table(lost)
    write_parquet(out / "quarantine.parquet", quarantine)
    check_unreadable(quarantine, len(scenes), max_unreadable, where=out)
    for name in ("images.txt", "bounding_boxes.txt"):
        if (cub / name).is_file():
            with write_whole(out / name) as temporary:
                shutil.copyfile(cub / name, temporary)
    _write_list(out / LAST, [scene for scene, reason in zip(scenes, reasons, strict=True) if reason is None])


def _write_scene(scene: Scene, cub: Path, masks: Path, places: Path, out: Path) -> str | None:
    """Write one image and its mask; returns why, where it cannot be made."""
    picture = out / scene.bird.image
    mask = (out / "segmentations" / scene.bird.image).with_suffix(".png")
    if picture.is_file() and mask.is_file():
        return None
    source = (masks / scene.bird.image).with_suffix(".png")
    try:
        bird = read_image(cub / "images" / scene.bird.image)
        shape = read_image(source).convert("L")
        background = read_image(places / scene.background)
    except UnreadableImage as problem:
        return str(problem)
    if shape.size != bird.size:
        return f"its mask has {shape.size[0]} x {shape.size[1]} pixels, it has {bird.size[0]} x {bird.size[1]}"
    encoded = io.BytesIO()
    place_bird(bird, shape, background).save(encoded, "JPEG", quality=95)
    _write(mask, source.read_bytes())
    _write(picture, encoded.getvalue())
    return None


def place_bird(bird: Image.Image, mask: Image.Image, background: Image.Image) -> Image.Image:
    """The bird where its mask is white, the background where it is black, a blend between.

    Args:
        bird: RGB.
        mask: grey, of the bird's size: the share of annotators who marked each pixel.
        background: RGB, of any size: scaled and cropped about its middle to the bird's size.
    """
    return Image.composite(bird, ImageOps.fit(background, bird.size, Image.Resampling.BICUBIC), mask)


def _write(file: Path, content: bytes) -> None:
    """Write a file whole, unsynced."""
    temporary = file.with_name(f".{file.stem}.{secrets.token_hex(4)}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError as error:
        raise cannot_write(file, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_list(file: Path, scenes: Sequence[Scene]) -> None:
    with write_whole(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for scene in scenes:
            bird = scene.bird
            split = SPLITS.index(bird.split)
            writer.writerow([bird.number, bird.image, bird.label, split, scene.water, f"/{scene.background}"])
