"""Features that are larger than memory: rows of a store, of which only the blocks in use are held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

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
        self._like = one[:0]
        self._held: OrderedDict[int, Tensor] = OrderedDict()

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
        order = owner.argsort(stable=True)
        blocks, sizes = owner[order].unique_consecutive(return_counts=True)
        found = self._like.new_empty((len(flat), *self.shape[1:]))
        for number, places in zip(blocks.tolist(), order.split(sizes.tolist()), strict=True):
            found[places] = self._block(number)[flat[places] - number * BLOCK]
        return found.to(self.device, self.dtype).unflatten(0, indices.shape)

    def parts(self) -> Iterator[Tensor]:
        """All rows in order, some at a time; none is held."""
        for span in cut(len(self), AT_ONCE):
            yield self._read(self._rows[span.start : span.stop]).to(self.device, self.dtype)

    def _block(self, number: int) -> Tensor:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        block = self._read(self._rows[number * BLOCK : (number + 1) * BLOCK])
        room = max(1, self.memory // (BLOCK * self.row_bytes)) if self.row_bytes else 1
        while len(self._held) >= room:
            self._held.popitem(last=False)
        self._held[number] = block
        return block
