"""Small models of open_clip and transformers: the real towers, a few thousandths of the real size."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

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


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
LETTERS = string.ascii_lowercase + string.digits + " .,!?'-"
PAD, END, UNKNOWN = 0, 1, 2
CONTEXT = 24


@cache
def letters_tokenizer() -> PreTrainedTokenizerFast:
    """A token a letter, ended; so small that its texts can be counted by eye."""
    vocabulary = {"<pad>": PAD, "</s>": END, "<unk>": UNKNOWN}
    vocabulary |= {letter: 3 + place for place, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )


def new_huggingface(kind: str, seed: int = 0) -> Any:
    """A small model with norms and biases away from their initial zeros and ones."""
    text = {**SIZES, "vocab_size": 60, "max_position_embeddings": CONTEXT, "eos_token_id": END, "pad_token_id": PAD}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "clip":
            model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
        elif kind == "siglip":
            model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision))
        else:
            flexible = {**SIZES, "patch_size": 8, "num_patches": 9}
            model = Siglip2Model(
                Siglip2Config(text_config={**text, "projection_size": 32}, vision_config=flexible),
            )
        for value in model.parameters():
            if value.ndim <= 1:
                nn.init.normal_(value, mean=0.5, std=0.2)
    return model.eval()


def new_processor(kind: str) -> Any:
    if kind == "clip":
        return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    if kind == "siglip":
        return SiglipImageProcessor(size={"height": 32, "width": 32})
    return Siglip2ImageProcessor(patch_size=8, max_num_patches=16)


def write_huggingface(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder that ``from_pretrained`` reads: model, tokenizer and image processor."""
    for part in (new_huggingface(kind, seed), letters_tokenizer(), new_processor(kind)):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Writes a folder: ``write_model(folder, "siglip", seed=0)``."""
    return write_huggingface
