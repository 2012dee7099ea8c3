"""Small open_clip models: the real towers and tokenizer, a few thousandths of the real size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from despur.backbones.open_clip import OpenClipBackbone

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
VISION: dict[str, dict[str, Any]] = {
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "vit": {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8},
}


def small_model(tower: str, *, seed: int = 0, vision: dict[str, Any] | None = None, **config: Any) -> nn.Module:
    """An open_clip model of random weights, with norms and biases away from their initial zeros and ones."""
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    text = {**TEXT, **config.pop("text", {})}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(embed_dim=16, vision_cfg={**VISION[tower], **(vision or {})}, text_cfg=text, **config)
        for value in model.parameters():
            if value.ndim == 1:
                nn.init.normal_(value, mean=0.5, std=0.2)
    return model


@cache
def tokenizer() -> SimpleTokenizer:
    """One for all tests: building it takes longer than the models do."""
    return SimpleTokenizer(context_length=TEXT["context_length"])


@pytest.fixture
def small_backbone() -> Callable[..., OpenClipBackbone]:
    """Builds a backbone: ``small_backbone("vit", trainable="projection", vision={"pool_type": "avg"})``."""

    def build(tower: str, *, trainable: str = "projection", **options: Any) -> OpenClipBackbone:
        model = small_model(tower, **options)
        return OpenClipBackbone(model, tokenizer(), spec=f"small {tower}", trainable=trainable)

    return build
