"""How many images go through an encoder together where nobody has said."""

from __future__ import annotations

from collections.abc import Callable

import torch

from despur.backbones.protocol import Backbone

ON_CPU = 64
"""Images a batch on a CPU, where larger batches gain nothing and only hold more memory."""

MOST = 1024
"""Images a batch beyond which a GPU gains nothing, and decoded batches fill the machine's own memory."""


def largest_batch(fits: Callable[[int], bool], most: int = MOST) -> int:
    """The last of 1, 2, 4, ... up to ``most`` that fits before one does not; 1 where none does."""
    size = 1
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def choose_batch_size(backbone: Backbone) -> int:
    """A batch size for the backbone's device: tried out on CUDA, ``ON_CPU`` elsewhere.

    On CUDA black images go through the encoder, twice as many each time, until memory does not suffice. Half of the
    largest that fitted is taken, since a batch is waiting on the device while another is encoded.
    """
    if backbone.device.type != "cuda":
        return ON_CPU
    return max(largest_batch(lambda size: _fits(backbone, size)) // 2, 1)


def _fits(backbone: Backbone, size: int) -> bool:
    """Whether a batch of this size goes through the encoder; the memory of the attempt is given back."""
    pixels = None
    try:
        pixels = torch.zeros(size, 3, backbone.framing.height, backbone.framing.width, device=backbone.device)
        backbone.image_features(pixels)
    except torch.OutOfMemoryError:
        return False
    finally:
        del pixels
        if backbone.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
