"""Running the frozen encoders: images and texts to the features that the heads are trained on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.prompts import fill
from despur.backbones.protocol import Backbone
from despur.data.images import UnreadableImage, read_image
from despur.progress import Progress, silent

PREFETCHED = 2
"""Batches that are decoded ahead of the encoder."""


@dataclass(frozen=True)
class Decoded:
    """One batch of photographs, ready for the encoder.

    Attributes:
        rows: index into the paths of each image that could be read.
        pixels: those images.
        unreadable: index and reason of each that could not.
    """

    rows: list[int]
    pixels: Float[Tensor, "images 3 height width"]
    unreadable: list[tuple[int, str]]


@dataclass(frozen=True)
class Encoded:
    """The same batch after the encoder; ``features`` are on the CPU, float32, of shape [0] where there are no rows."""

    rows: list[int]
    features: Tensor
    unreadable: list[tuple[int, str]]


def cut(count: int, batch_size: int, block: int | None = None) -> list[range]:
    """Rows 0 to ``count`` in batches, none of which crosses a multiple of ``block`` rows."""
    block = block or max(count, 1)
    return [
        range(start, min(start + batch_size, first + block, count))
        for first in range(0, count, block)
        for start in range(first, min(first + block, count), batch_size)
    ]


def decode_images(
    paths: Sequence[Path], backbone: Backbone, *, batch_size: int, workers: int | None = None, block: int | None = None
) -> Iterator[Decoded]:
    """Photographs as the encoder wants them, batch by batch in order, decoded ahead in threads.

    Pillow decodes and resizes without holding the interpreter's lock, so that threads do what processes would, without
    their start and without copying pixels between them.

    Args:
        workers: threads; None: one a processor (more of them only push the encoder aside where it shares these).
        block: no batch crosses a multiple of this many paths.
    """

    def one(row: int) -> Tensor | str:
        try:
            return backbone.preprocess(read_image(paths[row]))
        except UnreadableImage as problem:
            return problem.reason

    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:

        def submit(batch: range) -> list[Future[Tensor | str]]:
            return [pool.submit(one, row) for row in batch]

        batches = cut(len(paths), batch_size, block)
        ahead = deque(submit(batch) for batch in batches[:PREFETCHED])
        try:
            for number, batch in enumerate(batches):
                results = [future.result() for future in ahead.popleft()]
                if number + PREFETCHED < len(batches):
                    ahead.append(submit(batches[number + PREFETCHED]))
                yield _gather(batch.start, results, backbone)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _gather(start: int, results: list[Tensor | str], backbone: Backbone) -> Decoded:
    read = {start + place: result for place, result in enumerate(results) if isinstance(result, Tensor)}
    unreadable = [(start + place, result) for place, result in enumerate(results) if isinstance(result, str)]
    empty = torch.empty(0, 3, backbone.framing.height, backbone.framing.width)
    return Decoded(list(read), torch.stack(list(read.values())) if read else empty, unreadable)


def encode_images(
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    block: int | None = None,
    progress: Progress = silent,
) -> Iterator[Encoded]:
    """Features of photographs, batch by batch in the order of ``paths``.

    An image that cannot be read is reported with its reason; it stops nothing.

    Args:
        workers: threads that decode; None: one a processor.
        block: no batch crosses a multiple of this many paths.
    """
    batches = decode_images(paths, backbone, batch_size=batch_size, workers=workers, block=block)
    for batch in progress(batches, total=len(paths), label="embedding", unit="images", each=batch_size):
        # Not every encoder takes an empty batch; torch.cat passes over an empty vector.
        features = torch.empty(0)
        if batch.rows:
            features = backbone.image_features(batch.pixels.to(backbone.device, non_blocking=True))
        yield Encoded(batch.rows, features.float().cpu(), batch.unreadable)


def encode_texts(
    backbone: Backbone, texts: Sequence[str], *, batch_size: int = 256, progress: Progress = silent
) -> Float[Tensor, "texts d_text"]:
    """Features of texts before the projection, float32, on the CPU.

    Raises:
        ModelError: a text is longer than the model's context.
    """
    parts = [list(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size)]
    return torch.cat(
        [
            backbone.text_features(backbone.tokenize(part).to(backbone.device)).float().cpu()
            for part in progress(parts, total=len(texts), label="encoding prompts", unit="prompts", each=batch_size)
        ]
    )


def encode_prompts(
    backbone: Backbone, templates: Sequence[str], phrases: Sequence[str], progress: Progress = silent
) -> Float[Tensor, "templates phrases d_text"]:
    """Features of every template filled with every phrase."""
    features = encode_texts(backbone, fill(templates, phrases), progress=progress)
    return features.unflatten(0, (len(templates), len(phrases)))
