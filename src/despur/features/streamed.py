"""Features that are larger than memory: rows of a store, of which only the blocks in use are held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from despur.features.encode import cut

BLOCK = 256
"""Neighbouring rows that are read together: half a megabyte at 1,024 numbers in half precision."""

AT_ONCE = 4096
"""Rows in one part of :meth:`StreamedFeatures.parts`."""


class StreamedFeatures:
    """Some rows of a store as one tensor [rows, ...] would hold them, in blocks that are read when they are asked for.

    Args:
        read: rows of the store by index, in its precision, on the CPU (``FeatureStore.rows``).
        rows: which of them, in order.
        memory: bytes that held blocks may take, in the store's precision; the block that was asked for longest ago is
            let go.
        device, dtype: of what is handed out.
    """

    def __init__(
        self,
        read: Callable[[Int[np.ndarray, "rows"]], Tensor],
        rows: Int[np.ndarray, "rows"],
        *,
        memory: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._read, self._rows = read, rows
        self.memory, self.device, self.dtype = memory, torch.device(device), dtype
        one = read(rows[:1])
        self.row_bytes = one.numel() * one.element_size()
        """Bytes of a row while it is held."""
        self.shape = torch.Size([len(rows), *one.shape[1:]])
        self._room = max(1, memory // max(1, BLOCK * self.row_bytes))
        """Blocks that may be held."""
        self._like = one[:0]
        blocks = -(-len(rows) // BLOCK)
        self._slot = torch.full((blocks,), -1, dtype=torch.int64)
        """Where in the arena each block is held; -1: nowhere."""
        self._asked = torch.zeros(blocks, dtype=torch.int64)
        """When each block was last asked for, as a count of requests."""
        self._requests = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ndim(self) -> int:
        """Dimensions, rows among them."""
        return len(self.shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> StreamedFeatures:
        """The same rows, handed out on another device and in another precision."""
        return StreamedFeatures(self._read, self._rows, memory=self.memory, device=device, dtype=dtype)

    def take(self, indices: Int[Tensor, "*chosen"]) -> Tensor:
        """The chosen rows: [*chosen, ...]. Quick where they come from few blocks, or from those that are held."""
        flat = indices.flatten().cpu()
        owner = torch.div(flat, BLOCK, rounding_mode="floor")
        blocks = owner.unique()
        if len(blocks) <= self._room:
            found = self._gather(flat, owner, blocks)
        else:
            found = self._like.new_empty((len(flat), *self.shape[1:]))
            for some in blocks.split(self._room):
                mine = torch.isin(owner, some)
                found[mine] = self._gather(flat[mine], owner[mine], some)
        return found.to(self.device, self.dtype).unflatten(0, indices.shape)

    def parts(self) -> Iterator[Tensor]:
        """All rows in order, some at a time; none is held."""
        for span in cut(len(self), AT_ONCE):
            yield self._read(self._rows[span.start : span.stop]).to(self.device, self.dtype)

    def _gather(self, rows: Int[Tensor, "rows"], owner: Int[Tensor, "rows"], blocks: Int[Tensor, "blocks"]) -> Tensor:
        """Rows of blocks that fit all at once, those that are missing read into the place of the longest unasked."""
        self._requests += 1
        self._asked[blocks] = self._requests
        for number in blocks[self._slot[blocks] < 0].tolist():
            self._hold(number)
        return self._arena.index_select(0, self._slot[owner] * BLOCK + rows % BLOCK)

    @cached_property
    def _arena(self) -> Tensor:
        """The held blocks, one after the other. Memory that was never written to is not taken from the system."""
        return self._like.new_empty((min(self._room, len(self._slot)) * BLOCK, *self.shape[1:]))

    def _hold(self, number: int) -> None:
        block = self._read(self._rows[number * BLOCK : (number + 1) * BLOCK])
        held = (self._slot >= 0).nonzero().squeeze(-1)
        if len(held) < self._room:
            slot = len(held)
        else:
            oldest = held[self._asked[held].argmin()]
            slot = int(self._slot[oldest])
            self._slot[oldest] = -1
        self._arena[slot * BLOCK : slot * BLOCK + len(block)] = block
        self._slot[number] = slot
