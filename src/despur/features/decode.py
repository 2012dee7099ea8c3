"""Photographs as the encoder wants them, batch by batch in order, decoded ahead of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.protocol import Backbone
from despur.data.images import NO_MEMORY, UnreadableImage, read_image
from despur.features.workers import AHEAD, KILLED, DecodingPool, processes_can_decode

FEW = 256
"""Images below which threads decode: so few are done before processes have paid for their start."""


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


def decode_images(
    paths: Sequence[Path], backbone: Backbone, batches: Sequence[range], *, workers: int | None = None
) -> Iterator[Decoded]:
    """Read and preprocess photographs, some batches ahead, in worker processes (in threads where there are few).

    Args:
        batches: rows of ``paths``, in order, each a batch.
        workers: processes or threads; None: one a processor (more of them only push the encoder aside where it shares
            these).
    """
    workers = workers or os.cpu_count() or 1
    if len(paths) >= FEW and processes_can_decode():
        return _in_processes(paths, backbone, batches, workers)
    return _in_threads(paths, backbone, batches, workers)


def is_passing(reason: str) -> bool:
    """Whether an image could not be read for want of memory, which may have passed when it is read the next time."""
    return reason == NO_MEMORY or reason.startswith(KILLED)


def reads_now(path: Path, backbone: Backbone) -> bool:
    """Whether an image can be read by now; one that kills who reads it kills a worker."""
    one = [range(1)]
    decoded = _in_processes if processes_can_decode() else _in_threads
    return all(not batch.unreadable for batch in decoded([path], backbone, one, 1))


def _in_processes(
    paths: Sequence[Path], backbone: Backbone, batches: Sequence[range], workers: int
) -> Iterator[Decoded]:
    shape = (3, backbone.framing.height, backbone.framing.width)
    size = max(len(batch) for batch in batches)
    with closing(DecodingPool(paths, backbone.preprocess, shape, size, workers)) as pool:
        for number, batch in enumerate(batches[:AHEAD]):
            pool.submit(number, batch)
        for number, batch in enumerate(batches):
            pixels, reasons = pool.collect(number, batch)
            if number + AHEAD < len(batches):
                pool.submit(number + AHEAD, batches[number + AHEAD])
            rows = [row for row in batch if row not in reasons]
            # A copy: the workers write over the shared memory, and the caller may keep what it is given.
            yield Decoded(rows, pixels[[row - batch.start for row in rows]], sorted(reasons.items()))


def _in_threads(paths: Sequence[Path], backbone: Backbone, batches: Sequence[range], workers: int) -> Iterator[Decoded]:
    def one(row: int) -> Tensor | str:
        try:
            return backbone.preprocess(read_image(paths[row]))
        except UnreadableImage as problem:
            return problem.reason

    with ThreadPoolExecutor(max_workers=workers) as pool:

        def submit(batch: range) -> list[Future[Tensor | str]]:
            return [pool.submit(one, row) for row in batch]

        ahead = deque(submit(batch) for batch in batches[:AHEAD])
        try:
            for number, batch in enumerate(batches):
                results = [future.result() for future in ahead.popleft()]
                if number + AHEAD < len(batches):
                    ahead.append(submit(batches[number + AHEAD]))
                yield _gather(batch.start, results, backbone)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _gather(start: int, results: list[Tensor | str], backbone: Backbone) -> Decoded:
    read = {start + place: result for place, result in enumerate(results) if isinstance(result, Tensor)}
    unreadable = [(start + place, result) for place, result in enumerate(results) if isinstance(result, str)]
    empty = torch.empty(0, 3, backbone.framing.height, backbone.framing.width)
    return Decoded(list(read), torch.stack(list(read.values())) if read else empty, unreadable)
