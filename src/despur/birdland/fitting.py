"""What every training of a small model shares: settings, how a batch of scenes is made ready, rate and optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from open_clip.transform import PreprocessCfg
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class FitSettings(BaseModel):
    """How one part of a small model's training goes.

    Attributes:
        epochs: passes over the scenes; every pass frames, mirrors or captions them anew.
        batch_size: scenes a step.
        learning_rate: AdamW's, after warm-up; falls to zero along a cosine.
        weight_decay: of matrices and kernels; biases, norms and embeddings of positions have none.
        warm_up: steps over which the rate rises.
        shift: pixels that a whole scene is moved by at most, either way, before it is resized.
        close_up: side of a window around the subject that is shown instead of the whole scene, pixels; None: the whole.
        seed: of the order, the captions and the augmentation.
    """

    model_config = ConfigDict(frozen=True)

    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.05, ge=0.0)
    warm_up: int = Field(default=100, ge=0)
    shift: int = Field(default=4, ge=0)
    close_up: int | None = Field(default=None, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did.

    Attributes:
        epoch: counted from 1.
        loss: mean over the epoch's steps.
        learning_rate: at its last step.
        inverse_temperature: 1/τ after it.
    """

    epoch: int
    loss: float
    learning_rate: float
    inverse_temperature: float


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies bfloat16 matrices faster than float32 ones (AMX or AVX-512 BF16)."""
    capabilities: Callable[[], dict[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    known = capabilities()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def input_side(preprocessing: PreprocessCfg) -> int:
    """Side of a square encoder's input, pixels."""
    size = preprocessing.size
    return size if isinstance(size, int) else size[0]


def encoder_input(
    pixels: UInt8[Tensor, "images 3 height width"], preprocessing: PreprocessCfg
) -> Float[Tensor, "images 3 rows columns"]:
    """Square scenes to the encoder's input: open_clip's evaluation transform, within rounding, but in batches."""
    size = input_side(preprocessing)
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(preprocessing.std).view(3, 1, 1)
    return ((pixels.float() / 255.0 - mean) / std).contiguous(memory_format=torch.channels_last)


def mirrored(
    pixels: UInt8[Tensor, "images channels height width"], generator: torch.Generator
) -> UInt8[Tensor, "images channels height width"]:
    """Each picture mirrored left to right, half of the time."""
    flip = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), pixels.flip(-1), pixels)


def shifted(
    pixels: UInt8[Tensor, "images channels height width"], most: int, generator: torch.Generator
) -> UInt8[Tensor, "images channels height width"]:
    """Each picture moved by up to ``most`` pixels either way, its edge repeated."""
    if most == 0:
        return pixels
    images, _, height, width = pixels.shape
    padded = F.pad(pixels, (most,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * most + 1, (images, 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(corners)])


def close_ups(
    pixels: UInt8[Tensor, "images channels height width"],
    boxes: Float[Tensor, "images 4"],
    side: int,
    generator: torch.Generator,
) -> UInt8[Tensor, "images channels side side"]:
    """A window of each picture that holds its box (or the box's middle, where the box is larger), placed at random."""
    images, _, height, width = pixels.shape
    near, far = boxes[:, :2], boxes[:, 2:]
    middle = (near + far) / 2.0 - side / 2.0
    lowest, highest = torch.minimum(far - side, middle), torch.maximum(near, middle)
    corner = (lowest + torch.rand(images, 2, generator=generator) * (highest - lowest)).round().long()
    limit = torch.tensor([width - side, height - side])
    corners = corner.clamp(min=torch.zeros_like(limit), max=limit).tolist()
    return torch.stack([pixels[i, :, y : y + side, x : x + side] for i, (x, y) in enumerate(corners)])


def framed(
    pixels: UInt8[Tensor, "images channels height width"],
    boxes: Float[Tensor, "images 4"],
    settings: FitSettings,
    generator: torch.Generator,
) -> UInt8[Tensor, "images channels rows columns"]:
    """Pictures as training shows them: a close-up or the whole moved a little, and mirrored half of the time."""
    if settings.close_up is None:
        return mirrored(shifted(pixels, settings.shift, generator), generator)
    return mirrored(close_ups(pixels, boxes, settings.close_up, generator), generator)


def learning_rate_at(step: int, steps: int, settings: FitSettings) -> float:
    """The rate of a step: linear warm-up, then a cosine down to zero."""
    warm_up = min(settings.warm_up, steps // 2)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    return settings.learning_rate * 0.5 * (1.0 + cos(pi * (step - warm_up) / max(steps - warm_up, 1)))


def make_optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices, but neither biases, gains nor positional embeddings."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [p for name, p in named if p.ndim >= 2 and "positional" not in name]
    plain = [p for name, p in named if p.ndim < 2 or "positional" in name]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
