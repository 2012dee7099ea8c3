"""How many images go through an encoder together, and in what precision, where nobody has said."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from despur.backbones.protocol import Backbone
from despur.features.engine import EmbedSettings
from despur.features.precision import Precision, choose_precision

ON_CPU = 64
"""Images a batch on a CPU, where larger batches gain nothing and only hold more memory."""

MOST = 1024
"""Images a batch beyond which a GPU gains nothing, and decoded batches fill the machine's own memory."""


AUTO = "auto"

log = logging.getLogger(__name__)


class EmbedChoices(BaseModel):
    """What a user says of embedding, "auto" where the device is to decide.

    Attributes:
        batch_size: images that go through the encoder together; "auto": those with which the work was begun, else
            :func:`choose_batch_size`.
        precision: what the encoder computes in; "auto": :func:`~despur.features.precision.choose_precision`.
        workers, dtype, shard_rows: as in :class:`~despur.features.engine.EmbedSettings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = ON_CPU
    precision: Precision | Literal["auto"] = AUTO
    workers: Annotated[int, Field(ge=1)] | None = None
    dtype: Literal["float16", "float32"] = "float16"
    shard_rows: Annotated[int, Field(ge=1)] = 1024

    def settled(
        self, backbone: Backbone, begun: Callable[[EmbedSettings], int | None] = lambda settings: None
    ) -> EmbedSettings:
        """The settings for this model on its device.

        Args:
            begun: tells the batch size of what there is already of these settings, whatever theirs is; None: nothing.
        """
        precision = self.precision
        settings = EmbedSettings(
            batch_size=ON_CPU if self.batch_size == AUTO else self.batch_size,
            precision=choose_precision(backbone.device) if precision == AUTO else precision,
            workers=self.workers,
            dtype=self.dtype,
            shard_rows=self.shard_rows,
        )
        if self.batch_size != AUTO:
            return settings
        # What fits beside a device's other work differs from one run to the next; a store is of one batch size.
        return settings.model_copy(update={"batch_size": begun(settings) or choose_batch_size(backbone)})


def tell_of_other_batches(found: Iterable[int | None], asked: int, done: str) -> None:
    """Warn of shards that are there and lack nothing but the batch size that is asked.

    Args:
        found: of each shard that is not current the batch size with which it would be; None: it lacks something else.
        done: what was done with their images ("computed").
    """
    for size, count in Counter(size for size in found if size not in (None, asked)).items():
        log.warning(
            "shards that were %s with batch size %d (%d of them) are %s again with %d;"
            " to keep them, stop it and go on with %d",
            done,
            size,
            count,
            done,
            asked,
            size,
        )


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
