"""Work of a size that a machine alone does not do in an hour, in small: Ray, ranking and training as they grow.

Three parts (``--part``); each compares like with like in turns:

* ``ray``: ViT-B-32 of open_clip (random weights) over JPEGs, a thread and a decoder each: the plain loop, one of Ray's
  actors, two. An image's time is that of four more shards, for a long job pays once for what comes before: starting
  the actor and loading the model is told as ``start_seconds``. ``ray_over_loop`` is one actor's time over the loop's.
* ``rank``: ``despur rank`` on 1, 15 and 150 million detections, 15 an image, in 1,000 classes. ``rank_150m_over_15m``
  is the time of a detection over its time there; beside it the same in 2 GB, where detections go to disk.
* ``train``: an epoch of ERM on 10 thousand, 100 thousand and 1 million features of 256 numbers from a feature store, of
  which 64 MB may be held, in windows of 65,536; and the middle one from memory. ``train_1m_over_100k`` is the time of
  an image over its time there.

Peak memory is of a fresh process that does the work once.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import in_turns, peak_gb, tell

# What a part does not need is not imported by it: the memory of a process that only ranks is to be told.
if TYPE_CHECKING:
    from despur.features.engine import ComputedShard, Engine

MODEL = "open_clip:ViT-B-32"
SHARD = 64
CLASSES, PHRASES, PER_IMAGE = 1_000, 8_000, 15
WIDTH = 256
HELD = 64 * 10**6

Figures = tuple[dict[str, float], dict[str, float], dict[str, Any]]
"""Ratios, peaks in GB, and what else is told."""


def photographs(folder: Path, count: int) -> list[Path]:
    """Blurred noise, 500 x 375."""
    import numpy as np
    from PIL import Image, ImageFilter

    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        noise = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
    return paths


def ray_part(folder: Path, quick: bool) -> Figures:
    import torch

    from despur.catalog import load_backbone
    from despur.features.engine import EmbedSettings, loop
    from despur.features.ray_actors import RaySettings
    from despur.features.ray_engine import ray_engine
    from despur.progress import silent

    more, runs = (1, 1) if quick else (4, 5)
    paths = photographs(folder, (2 + more) * SHARD)
    torch.set_num_threads(1)
    load = partial(load_backbone, MODEL, random_weights=True)
    backbone = load()
    settings = EmbedSettings(batch_size=16, shard_rows=SHARD, workers=1)

    def embedded(engine: Engine, shards: int) -> None:
        for _ in engine(paths[: shards * SHARD], [SHARD] * shards, backbone, settings, silent):
            pass

    # The loop has the priority of any program; Ray gives its workers a lower one unless it is told not to.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    sides: dict[str, Callable[[], object]] = {}
    for name, engine, actors in [("loop", loop, 1)] + [
        (f"ray_{actors}", ray_engine(load, RaySettings(actors=actors)), actors) for actors in (1, 2)
    ]:
        sides[f"{name} few"] = partial(embedded, engine, actors)
        sides[f"{name} more"] = partial(embedded, engine, actors + more)
    seconds = in_turns(sides, runs=runs, warm_up=False)
    names = ("loop", "ray_1", "ray_2")
    image = {name: (seconds[f"{name} more"] - seconds[f"{name} few"]) / more / SHARD for name in names}
    ratios = {"ray_over_loop": image["ray_1"] / image["loop"], "two_actors_over_one": image["ray_2"] / image["ray_1"]}
    told = {f"{name}_images_per_second": round(1 / each, 2) for name, each in image.items()}
    start = round(seconds["ray_1 few"] - SHARD * image["ray_1"], 1)
    # More than two actors are reckoned, not measured. Two have four threads, which fill as many cores as there are.
    hours = {actors: 1e6 * image[f"ray_{actors}"] / 3600 for actors in (1, 2)}
    reckoned = {str(actors): round(hours[1] / actors, 2) for actors in (8, 64)}
    cores = min(os.cpu_count() or 1, 4)
    sizing = {
        "processor_hours_per_million": round(cores * hours[2], 2),
        "hours_per_million_by_actors_reckoned": reckoned,
    }
    return ratios, {}, {"images": len(paths), **told, "start_seconds": start, **sizing}


def write_tables(folder: Path, images: int) -> None:
    """Predictions, right three times in four; detections of common phrases, and of forty phrases of each class."""
    import duckdb

    folder.mkdir()
    label = f"(i * {CLASSES} // {images})"
    name = f"printf('train/n%08d/%09d.JPEG', {label}, i) AS id"
    wrong = f"({label} + 1 + hash(i, 7) % 19) % {CLASSES}"
    common = f"floor(20 * (power({PHRASES} / 20.0 + 1, (hash(i, j, 2) % 1000000) / 1e6) - 1))::BIGINT"
    special = f"{label} * 37 + hash(i, j, 4) % 40"
    with duckdb.connect(config={"preserve_insertion_order": False}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(
            f"""COPY (SELECT {name}, {label}::INT AS label,
                CASE WHEN hash(i) % 4 = 0 THEN ({wrong})::INT ELSE {label}::INT END AS predicted,
                hash(i) % 4 != 0 AS correct, (hash(i, 3) % 1000 / 1000.0)::FLOAT AS margin
                FROM range({images}) t(i)) TO '{folder}/predictions.parquet' (COMPRESSION zstd)"""
        )
        connection.execute(
            f"""COPY (SELECT {name}, 'thing number ' ||
                ((CASE WHEN hash(i, j, 1) % 10 < 6 THEN {common} ELSE {special} END) % {PHRASES})::VARCHAR AS phrase,
                (hash(i, j, 5) % 1000 / 1000.0)::FLOAT AS score
                FROM range({images}) t(i), range({PER_IMAGE}) u(j))
                TO '{folder}/detections.parquet' (COMPRESSION zstd)"""
        )


def ranked(folder: Path, memory: str) -> None:
    from despur.rank import rank

    names = [f"class {number}" for number in range(CLASSES)]
    rank(folder / "predictions.parquet", folder / "detections.parquet", names, memory=memory, spill=folder)


def rank_part(folder: Path, quick: bool) -> Figures:
    millions = {"1m": 0.02, "15m": 0.3, "150m": 3.0} if quick else {"1m": 1.0, "15m": 15.0, "150m": 150.0}
    for name, count in millions.items():
        write_tables(folder / name, int(count * 1e6) // PER_IMAGE)
    sides = {name: partial(ranked, folder / name, "4GB") for name in millions}
    sides["150m_in_2gb"] = partial(ranked, folder / "150m", "2GB")
    seconds = in_turns(sides, runs=1 if quick else 5, warm_up=not quick)
    each = {name: value / millions[name.removesuffix("_in_2gb")] for name, value in seconds.items()}
    ratios = {
        "rank_15m_over_1m": each["15m"] / each["1m"],
        "rank_150m_over_15m": each["150m"] / each["15m"],
        "rank_150m_in_2gb_over_15m": each["150m_in_2gb"] / each["15m"],
    }
    return ratios, {f"rank_{name}": peak_gb(side) for name, side in sides.items()}, {"rank_seconds": seconds}


def drawn(paths: Sequence[Path], sizes: Sequence[int], *_: object) -> Iterator[ComputedShard]:
    """An engine that needs no images: normal numbers."""
    import numpy as np

    from despur.features.engine import ComputedShard

    rng = np.random.default_rng(0)
    for size in sizes:
        yield ComputedShard(list(range(size)), rng.standard_normal((size, WIDTH)).astype(np.float16), [])


def write_store(folder: Path, count: int) -> None:
    from despur.data.examples import make_dataset
    from despur.features.engine import EmbedSettings
    from despur.features.store import embed_to_store

    names = [f"train/{number:09d}.jpg" for number in range(count)]
    columns: dict[str, Any] = {"id": names, "image": names, "label": [0] * count, "split": ["train"] * count}
    dataset = make_dataset("drawn", folder, ["bird"], [], columns)
    embed_to_store(
        dataset, cast(Any, None), folder, state="drawn", settings=EmbedSettings(shard_rows=8192), engine=drawn
    )


def trained(folder: Path, streamed: bool) -> None:
    """One epoch of ERM, with one thread: products this small gain nothing from two."""
    import numpy as np
    import torch

    from despur.features.store import FeatureStore
    from despur.features.streamed import StreamedFeatures
    from despur.mitigate.methods import METHODS
    from despur.mitigate.settings import TrainSettings
    from despur.mitigate.study import Examples, Study
    from despur.mitigate.trainer import train

    torch.set_num_threads(1)
    store = FeatureStore(folder)
    rows = np.arange(len(store))
    groups = torch.arange(len(store)) % 4
    features = StreamedFeatures(store.rows, rows, memory=HELD) if streamed else store.rows(rows).float()
    few = torch.arange(min(2_000, len(store)))
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    study = Study(
        train=Examples(features, groups // 2, groups),
        val=Examples(store.rows(few.numpy()).float(), groups[few] // 2, groups[few]),
        class_prompts=normal(80, 2, WIDTH),
        group_prompts=normal(80, 4, WIDTH),
        heads={
            "image.weight": normal(WIDTH, WIDTH) / 16,
            "text.weight": normal(WIDTH, WIDTH) / 16,
            "logit_scale": torch.tensor(3.0),
        },
        classes=("landbird", "waterbird"),
        attribute="water",
    )
    train(study, METHODS["erm"], TrainSettings(epochs=1, batch_size=512, shuffle_within=65_536))


def train_part(folder: Path, quick: bool) -> Figures:
    counts = {"10k": 1_000, "100k": 5_000, "1m": 20_000} if quick else {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
    for name, count in counts.items():
        write_store(folder / name, count)
    sides = {name: partial(trained, folder / name, True) for name in counts}
    sides["100k_in_memory"] = partial(trained, folder / "100k", False)
    seconds = in_turns(sides, runs=1 if quick else 5, warm_up=not quick)
    each = {name: seconds[name] / counts[name] for name in counts}
    ratios = {
        "train_100k_over_10k": each["100k"] / each["10k"],
        "train_1m_over_100k": each["1m"] / each["100k"],
        "train_disk_over_memory": seconds["100k"] / seconds["100k_in_memory"],
    }
    peaks = {f"train_{name}": peak_gb(sides[name]) for name in counts}
    features = {name: count * WIDTH * 4 / 1e9 for name, count in counts.items()}
    return ratios, peaks, {"train_seconds": seconds, "features_gb_in_float32": features}


PARTS = {"ray": ray_part, "rank": rank_part, "train": train_part}


def options() -> Namespace:
    parser = ArgumentParser(description="Ray, ranking and training as they grow")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not how fast")
    parser.add_argument("--part", choices=[*PARTS], action="append", help="only this part; may be given several times")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    ratios: dict[str, float] = {}
    peaks: dict[str, float] = {}
    more: dict[str, Any] = {}
    for name in chosen.part or PARTS:
        with tempfile.TemporaryDirectory() as place:
            for kept, found in zip((ratios, peaks, more), PARTS[name](Path(place), chosen.quick), strict=True):
                kept.update(found)
    tell("scale", ratios, peaks, chosen, **more)


if __name__ == "__main__":
    main()
