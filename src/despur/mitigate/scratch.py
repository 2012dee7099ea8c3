"""Memory that training steps hand on, so that the system need not hand out pages anew at every one."""

from __future__ import annotations

from torch import Tensor


class Scratch:
    """Tensors by name, kept from step to step.

    A tensor is whoever took it last: what is read in the backward pass must not be taken again before it.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape, with the device and precision of ``like``; what it holds is left from before."""
        held = self._held.get(name)
        if held is None or held.shape != shape or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = like.new_empty(shape)
        return held
