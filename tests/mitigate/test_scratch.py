"""Memory that is handed on."""

from __future__ import annotations

import torch

from despur.mitigate.scratch import Scratch


def test_the_same_name_and_shape_are_the_same_memory() -> None:
    scratch, like = Scratch(), torch.zeros(1)
    assert scratch.take("a", (2, 3), like) is scratch.take("a", (2, 3), like)
    assert scratch.take("a", (2, 3), like) is not scratch.take("b", (2, 3), like)


def test_another_shape_or_precision_is_memory_of_its_own() -> None:
    scratch, like = Scratch(), torch.zeros(1)
    held = scratch.take("a", (2, 3), like)
    assert scratch.take("a", (3, 2), like).shape == (3, 2)
    assert scratch.take("a", (2, 3), like) is not held
    assert scratch.take("a", (2, 3), like.double()).dtype == torch.float64
