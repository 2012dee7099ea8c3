"""Running the frozen encoders: images and texts to the features that the heads are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.prompts import fill
from despur.backbones.protocol import Backbone
from despur.errors import ModelError
from despur.features.decode import decode_images
from despur.features.precision import Precision, computing_in
from despur.progress import Progress, silent


@dataclass(frozen=True)
class Encoded:
    """A batch of photographs after the encoder: rows that could be read, features, (row, reason) of the others.

    ``features`` are on the CPU, float32, of shape [0] where there are no rows.
    """

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


def encode_images(
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    block: int | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Iterator[Encoded]:
    """Features of photographs, batch by batch in the order of ``paths``.

    An image that cannot be read is reported with its reason; it stops nothing.

    Args:
        workers: processes that decode (threads where there are few images); None: one a processor.
        block: no batch crosses a multiple of this many paths.
        precision: what the encoder computes in.

    Raises:
        ModelError: the device's memory does not hold a batch.
    """
    decoded = decode_images(paths, backbone, cut(len(paths), batch_size, block), workers=workers)
    for batch in progress(decoded, total=len(paths), label="embedding", unit="images", each=batch_size):
        # Not every encoder takes an empty batch; torch.cat passes over an empty vector.
        features = torch.empty(0)
        if batch.rows:
            try:
                with computing_in(precision, backbone.device):
                    features = backbone.image_features(batch.pixels.to(backbone.device, non_blocking=True))
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"the device's memory does not hold {len(batch.rows)} images at once",
                    where=backbone.spec,
                    now="give a smaller batch size, or auto",
                ) from error
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
