"""Telling two models apart by what they compute."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

_STRUCTURE = (
    "num_heads",
    "pool_type",
    "global_pool",
    "final_ln_after_pool",
    "text_pool_type",
    "text_eos_id",
    "eos_id",
    "eps",
)
"""Numbers that change what a module computes and are not among its weights."""


def weights_digest(model: nn.Module) -> str:
    """Hexadecimal digest over every weight and stored buffer, and over the structure that they sit in.

    Two models of one digest compute the same; the device is not part of it. Of a buffer that is not stored (a causal
    mask, a rotary table) only that it is there counts: its values follow from the structure, and their last bits differ
    from one processor to the next. Tensors are hashed side by side
    (``hashlib`` lets other threads run), 0.4 GB in under half a second on two cores.
    """
    state = model.state_dict()
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(_tensor_digest, state.values()))
    total = hashlib.blake2b(digest_size=16)
    for name, value, digest in zip(state, state.values(), hashes, strict=True):
        total.update(f"{name} {value.dtype} {list(value.shape)} ".encode() + digest)
    for name, value in model.named_buffers():
        if name not in state:
            total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    for name, module in model.named_modules():
        settings = [f"{key}={getattr(module, key)}" for key in _STRUCTURE if hasattr(module, key)]
        total.update(f"{name} {type(module).__name__} {settings}\n".encode())
    return total.hexdigest()


def _tensor_digest(value: Tensor) -> bytes:
    plain = value.detach().cpu().contiguous().reshape(-1)
    content: Any = plain.view(torch.uint8).numpy()
    return hashlib.blake2b(content, digest_size=16).digest()
