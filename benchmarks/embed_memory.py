"""Memory of embedding very many images: what the process and its workers hold at most, beyond the loaded model.

100,000 images, hard links to 48 small PNGs, go through birdland's small vision transformer (random weights) into a
store that is then read from end to end. A thread adds up the resident memory of the process and of its workers, pages
that they share counted once (PSS). The limit is 2 GB; ``--images`` chooses another number, to see that it stays flat.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
from PIL import Image

from despur.catalog import load_backbone
from despur.data.folder import load_folder
from despur.features.store import FeatureStore
from despur.pipeline import ModelSettings, embed_stage
from despur.workspace import Workspace
from harness import tell

SPEC = "birdland:vit"
DIFFERENT = 48
LIMIT_GB = 2.0
EVERY = 0.5
"""Seconds between two looks at the memory."""


def resident_gb() -> float:
    """Memory of this process and its children in GB, shared pages counted once; a child that just ended counts 0."""
    mine = Path("/proc/self/task")
    children = [name for task in mine.iterdir() for name in (task / "children").read_text().split()]
    return sum(_resident_kb(name) for name in ("self", *children)) / 1024**2


def _resident_kb(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Peak(Thread):
    """The most memory that was seen while it ran, in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gb = 0.0
        self._over = Event()

    def run(self) -> None:
        while not self._over.wait(EVERY):
            self.gb = max(self.gb, resident_gb())

    def stop(self) -> float:
        self._over.set()
        self.join()
        return self.gb


def many_images(root: Path, count: int) -> None:
    """Two class folders with ``count`` images, of which ``DIFFERENT`` differ: links cost no disk."""
    rng = np.random.default_rng(0)
    sources = [root / f"source-{number}.png" for number in range(min(DIFFERENT, count))]
    for source in sources:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(source)
    for name in ("cat", "dog"):
        (root / "images" / name).mkdir(parents=True)
    for number in range(count):
        os.link(sources[number % len(sources)], root / "images" / ("cat", "dog")[number % 2] / f"{number:06d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of embedding very many images, beyond the model")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="2,000 images: shows that it runs")
    parser.add_argument("--images", type=int, default=100_000, help="how many images are embedded")
    options = parser.parse_args()
    count = 2_000 if options.quick else options.images
    with TemporaryDirectory() as folder:
        root = Path(folder)
        many_images(root, count)
        backbone = load_backbone(SPEC, random_weights=True)
        before = resident_gb()
        peak = Peak()
        peak.start()
        start = time.perf_counter()
        workspace = Workspace.create(root / "work")
        dataset = load_folder(root / "images")
        embed_stage(workspace, dataset, backbone, ModelSettings(spec=SPEC, random_weights=True))
        rows = sum(len(features) for _, features in FeatureStore(workspace.path("features")).batches(1024))
        seconds = time.perf_counter() - start
        beyond = peak.stop() - before
    if rows != count:
        raise SystemExit(f"{rows} of {count} images were embedded")
    tell("embed_memory", {}, {"beyond_model_gb": beyond}, options, images=count, seconds=round(seconds, 1))
    if beyond >= LIMIT_GB:
        raise SystemExit(f"{beyond:.2f} GB beyond the model, where {LIMIT_GB} GB are the limit")


if __name__ == "__main__":
    main()
