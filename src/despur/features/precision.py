"""What the frozen encoder computes in: float32, or half precision where a GPU gains by it (mixed precision)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]


def choose_precision(device: torch.device) -> Precision:
    """Half precision on CUDA, bfloat16 where the card computes in it; float32 elsewhere."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Where PyTorch computes products and convolutions in this precision and leaves norms and softmaxes in float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
