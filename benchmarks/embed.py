"""Embedding photographs, against the encoder alone on tensors in memory.

RN50 and ViT-B-32 of open_clip with random weights, which cost what trained ones do. In turns, over the same images:

* ours: files in, features out, decoding and preprocessing included (``embed_to_store`` without its writing);
* the encoder alone on the same images, preprocessed already, in batches of the same size.

Where both share the processor, decoding takes from the encoder: ``decoding_ms`` is what an image costs one core to read
and preprocess, and ``ceiling`` the ratio that would be left if nothing ever waited.

The ratio is ours over the encoder's rate; 1 would mean that decoding costs nothing. Photographs are drawn (noise and
shapes, 500 x 375 JPEGs) unless a folder is given in ``DESPUR_PHOTOGRAPHS``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image, ImageFilter

from despur.backbones.protocol import Backbone
from despur.catalog import load_backbone
from despur.data.images import read_image
from despur.features.encode import encode_images
from harness import arguments, in_turns, tell

MODELS = {"rn50": "open_clip:RN50", "vit_b_32": "open_clip:ViT-B-32"}
BATCH = 16


def photographs(folder: Path, count: int) -> list[Path]:
    """Paths of ``count`` photographs: those of ``DESPUR_PHOTOGRAPHS`` again and again, or drawn ones."""
    given = os.environ.get("DESPUR_PHOTOGRAPHS")
    if given:
        found = sorted(path for path in Path(given).rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        return list(islice(cycle(found), count))
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        noise = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
    return paths


def sides(backbone: Backbone, paths: list[Path]) -> dict[str, Callable[[], object]]:
    """Both ways to the features of the same photographs."""
    pixels = torch.stack([backbone.preprocess(read_image(path)) for path in paths])

    def ours() -> list[torch.Tensor]:
        return [batch.features for batch in encode_images(paths, backbone, batch_size=BATCH)]

    def encoder() -> list[torch.Tensor]:
        return [backbone.image_features(batch) for batch in pixels.split(BATCH)]

    return {"ours": ours, "encoder": encoder}


def decoding_seconds(backbone: Backbone, paths: list[Path]) -> float:
    """One core's time to read and preprocess an image."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()
    for path in paths:
        backbone.preprocess(read_image(path))
    taken = time.perf_counter() - started
    torch.set_num_threads(threads)
    return taken / len(paths)


def main() -> None:
    options = arguments("files to features, against the encoder alone")
    count, runs = (32, 1) if options.quick else (320, 5)
    ratios: dict[str, float] = {}
    rates: dict[str, float] = {}
    decoding: dict[str, float] = {}
    ceiling: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        paths = photographs(Path(folder), count)
        for name, spec in MODELS.items():
            backbone = load_backbone(spec, random_weights=True)
            seconds = in_turns(sides(backbone, paths), runs=runs)
            each = decoding_seconds(backbone, paths)
            forward = seconds["encoder"] / count * torch.get_num_threads()
            decoding[name], ceiling[name] = round(1000 * each, 2), round(forward / (forward + each), 3)
            ratios[f"{name}_rate_over_forward"] = seconds["encoder"] / seconds["ours"]
            rates |= {f"{name}_{side}": round(count / taken, 2) for side, taken in seconds.items()}
    tell("embed", ratios, {}, options, images_per_second=rates, decoding_ms=decoding, ceiling=ceiling)


if __name__ == "__main__":
    main()
