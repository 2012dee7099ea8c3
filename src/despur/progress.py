"""How long work reports its progress: a wrapper around what is looped over, silent unless the caller shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps a loop: ``for batch in progress(batches, total=len(batches), label="embedding", unit="images")``."""

    def __call__(
        self, steps: Iterable[T], *, total: int, label: str, unit: str = "steps", each: int = 1
    ) -> Iterator[T]:
        """Yield every step unchanged.

        Args:
            steps: what is looped over.
            total: how many units there are in all.
            label: what is being done, as a person would say it ("embedding images").
            unit: what is counted.
            each: units in one step (the last step may hold fewer).
        """
        ...


def silent(steps: Iterable[T], *, total: int, label: str, unit: str = "steps", each: int = 1) -> Iterator[T]:
    """The default: shows nothing."""
    yield from steps
