"""Birdland on disk: the first study as the Waterbirds download looks, the second as a table with every object's box.

Scenes are drawn in chunks, side by side. A chunk that is done leaves a note of what it wrote; what the notes say is
gathered at the end into the lists that make the folder a dataset, and these come last, so that a folder is either
finished or refused by whoever reads it. The same call on an unfinished folder draws only the chunks that are missing.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from despur.birdland.birds import BIRDS
from despur.birdland.drawing import Chunk, Row, drawn
from despur.birdland.places import PLACES
from despur.birdland.scene import OBJECT_CLUTTER, Scene
from despur.birdland.studies import OBJECT_CLASSES, ScenePlan, plan_birds, plan_objects, render
from despur.birdland.tabletop import COMPANIONS
from despur.data.examples import SPLITS
from despur.errors import DataError, SettingsError
from despur.progress import Progress, silent
from despur.workspace import read_json, write_json, write_whole
from despur.workspace.files import cannot_write

EDITION = 1
"""Goes up when the same plan no longer gives the same files."""

_CHUNK = 128
_NOTES = ".chunks"
_WORLD = "birdland.json"
_LOCK = ".birdland.lock"


def write_birds(
    folder: Path, *, seed: int = 0, scale: float = 1.0, workers: int = 2, progress: Progress = silent
) -> None:
    """Write the first study as the Waterbirds download looks.

    ``metadata.csv``; JPEGs in one folder a class; masks under ``segmentations/`` with the same relative names and
    ``.png``; boxes in ``bounding_boxes.txt`` (image number, x, y, width, height in pixels). A finished folder of the
    same world is left as it is, an unfinished one is finished.

    Args:
        folder: made where missing.
        scale: what Table 1's counts are multiplied by.
        workers: processes that draw; with 1 this one draws.

    Raises:
        SettingsError: the scale is not above 0, the seed is below 0, or there is no worker.
        DataError: the folder holds something else, or another process is writing it.
        WorkspaceError: the folder cannot be written, or the disk is full.
    """
    _check_seed(seed)
    if not 0 < scale <= 100:
        raise SettingsError(f"the scale is {scale:g}", where="birdland", now="give one above 0, at most 100")
    world = {"edition": EDITION, "study": "birds", "seed": seed, "scale": scale}
    _write(folder, world, plan_birds(seed, scale), _write_bird, _list_birds, "metadata.csv", workers, progress)


def write_objects(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 3600,
    val: int = 600,
    test: int = 1200,
    correlation: float = 0.95,
    workers: int = 2,
    progress: Progress = silent,
) -> None:
    """Write the second study as a table: ``examples.csv``, ``images/``, and ``objects.json``.

    The table has ``image, label, split``, the subject's box ``x0, y0, x1, y1`` (pixels) and one 0/1 column for each
    other thing, 1 where it can be seen. ``objects.json`` maps each image to everything visible in it, the subject
    first, as ``[{"name", "box"}]``: the ground truth of detection. Finished and unfinished folders are met as in
    :func:`write_birds`.

    Args:
        folder: made where missing.
        train, val, test: scenes in each split.
        correlation: see :func:`~despur.birdland.studies.plan_objects`.
        workers: processes that draw; with 1 this one draws.

    Raises:
        SettingsError: a split holds no scenes, the correlation is no fraction, the seed is below 0, or there is no
            worker.
        DataError: the folder holds something else, or another process is writing it.
        WorkspaceError: the folder cannot be written, or the disk is full.
    """
    _check_seed(seed)
    if min(train, val, test) < 1:
        raise SettingsError("a split holds no scenes", where="birdland", now="give each of train, val, test at least 1")
    if not 0 <= correlation <= 1:
        raise SettingsError(f"the correlation is {correlation:g}", where="birdland", now="give one from 0 to 1")
    world = {
        "edition": EDITION,
        "study": "objects",
        "seed": seed,
        "counts": [train, val, test],
        "correlation": correlation,
    }
    plans = plan_objects(seed, train=train, val=val, test=test, correlation=correlation)
    _write(folder, world, plans, _write_object, _list_objects, "examples.csv", workers, progress)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise SettingsError(f"the seed is {seed}", where="birdland", now="give one of 0 or more")


def _write(
    folder: Path,
    world: dict[str, Any],
    plans: Sequence[ScenePlan],
    write_scene: Callable[[Path, ScenePlan], Row],
    write_lists: Callable[[Path, Sequence[ScenePlan], Sequence[Row]], None],
    last: str,
    workers: int,
    progress: Progress,
) -> None:
    """Draw what is missing, then write the lists, of which ``last`` says that the folder is finished."""
    if workers < 1:
        raise SettingsError(f"{workers} workers cannot draw", where="birdland", now="give at least 1")
    _claim(folder, world)
    try:
        with FileLock(folder / _LOCK, timeout=0):
            if (folder / last).exists():
                return
            chunks = [plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK)]
            notes = [folder / _NOTES / f"{number:05d}.json" for number in range(len(chunks))]
            missing = [
                Chunk(folder, note, chunk, write_scene)
                for note, chunk in zip(notes, chunks, strict=True)
                if not _is_done(folder, note)
            ]
            total = sum(len(chunk.plans) for chunk in missing)
            with closing(drawn(missing, workers)) as scenes:
                for _ in progress(scenes, total=total, label="drawing scenes", unit="scenes", each=_CHUNK):
                    pass
            rows: list[Row] = [row for note in notes for row in read_json(note)]
            if os.name != "nt":
                # The images were not synced one by one, which would take longer than drawing them.
                os.sync()
            for stray in folder.rglob(".*.partial"):
                stray.unlink(missing_ok=True)
            write_lists(folder, plans, rows)
            shutil.rmtree(folder / _NOTES)
    except Timeout as error:
        raise DataError("another process is writing it", where=folder, now="wait until that one is done") from error


def _claim(folder: Path, world: dict[str, Any]) -> None:
    """Note in the folder which world it holds; a folder that holds anything else is refused."""
    note = folder / _WORLD
    if note.is_file():
        held = read_json(note)
        if held != world:
            raise DataError(
                f"it holds another birdland ({_told(held)})", where=folder, now="name another folder or delete this one"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(entry.name[0] != "." for entry in folder.iterdir())):
        raise DataError("it is there already and is not birdland's", where=folder, now="name an empty or new folder")
    write_json(note, world)


def _told(world: object) -> str:
    if not isinstance(world, dict):
        return "of an unknown kind"
    return ", ".join(f"{key} {value}" for key, value in world.items())


def _is_done(folder: Path, note: Path) -> bool:
    """Whether the chunk was noted as done and its files are still there, whole."""
    if not note.is_file():
        return False
    sizes = {name: size for row in read_json(note) for name, size in row["files"].items()}
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _save(folder: Path, name: str, pixels: np.ndarray, **options: Any) -> dict[str, int]:
    """Write an image whole, unsynced; returns its name and size."""
    target = folder / name
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG" if target.suffix == ".png" else "JPEG", **options)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(encoded.getbuffer())
        temporary.replace(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return {name: encoded.getbuffer().nbytes}


def _save_picture(folder: Path, name: str, scene: Scene) -> dict[str, int]:
    # Birds are few pixels wide: their colours are kept at full resolution.
    return _save(folder, name, scene.pixels, quality=92, subsampling=0)


def _bird_image(plan: ScenePlan) -> str:
    name = BIRDS[plan.label].capitalize()
    return f"{plan.label + 1:03d}.{name}/{name}_{plan.index + 1:05d}.jpg"


def _write_bird(folder: Path, plan: ScenePlan) -> Row:
    scene, name = render(plan), _bird_image(plan)
    mask = Path("segmentations", name).with_suffix(".png").as_posix()
    pictures = _save_picture(folder, name, scene)
    masks = _save(folder, mask, scene.things[0].mask.astype(np.uint8) * 255)
    return {"files": pictures | masks, "box": scene.things[0].box}


def _list_birds(folder: Path, plans: Sequence[ScenePlan], rows: Sequence[Row]) -> None:
    boxes = [
        f"{plan.index + 1} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}"
        for plan, (x0, y0, x1, y1) in zip(plans, (row["box"] for row in rows), strict=True)
    ]
    with write_whole(folder / "bounding_boxes.txt") as temporary:
        temporary.write_text("\n".join(boxes) + "\n", encoding="utf-8")
    lines = [
        (
            plan.index + 1,
            _bird_image(plan),
            plan.label,
            SPLITS.index(plan.split),
            int(plan.present),
            f"/{PLACES[int(plan.present)]}/{plan.index + 1:08d}.jpg",
        )
        for plan in plans
    ]
    _write_csv(folder / "metadata.csv", ("img_id", "img_filename", "y", "split", "place", "place_filename"), lines)


def _object_image(plan: ScenePlan) -> str:
    return f"images/{OBJECT_CLASSES[plan.label]}_{plan.index + 1:05d}.jpg"


def _write_object(folder: Path, plan: ScenePlan) -> Row:
    scene = render(plan)
    things = [{"name": thing.name, "box": thing.box} for thing in scene.things]
    return {"files": _save_picture(folder, _object_image(plan), scene), "things": things}


def _list_objects(folder: Path, plans: Sequence[ScenePlan], rows: Sequence[Row]) -> None:
    write_json(
        folder / "objects.json", {_object_image(plan): row["things"] for plan, row in zip(plans, rows, strict=True)}
    )
    others = (*COMPANIONS, *OBJECT_CLUTTER)
    lines: list[tuple[object, ...]] = []
    for plan, row in zip(plans, rows, strict=True):
        seen = {thing["name"] for thing in row["things"]}
        box = row["things"][0]["box"]
        present = (int(name in seen) for name in others)
        lines.append((_object_image(plan), OBJECT_CLASSES[plan.label], plan.split, *box, *present))
    _write_csv(folder / "examples.csv", ("image", "label", "split", "x0", "y0", "x1", "y1", *others), lines)


def _write_csv(file: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with write_whole(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
