"""A backbone as a folder that open_clip reads without despur."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_clip import get_model_config
from open_clip.constants import HF_SAFE_WEIGHTS_NAME
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file

from despur.backbones.clip_tokenizer import STANDARD_VOCABULARY, as_clip_tokenizer
from despur.backbones.heads import Heads
from despur.backbones.open_clip import OpenClipBackbone
from despur.backbones.placing import placed, without_place
from despur.backbones.protocol import Backbone
from despur.backbones.registry import CONFIG_FILE, choose
from despur.errors import ModelError

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
"""What an ``open_clip_config.json`` says of images; their size is the tower's."""


def write_open_clip(backbone: Backbone, heads: Heads, folder: Path) -> str:
    """Write weights, configuration and, where open_clip has it not itself, the tokenizer; returns code that loads them.

    An image head that the architecture has no place for (SigLIP's) is written as a projection behind the tower, which
    the configuration beside the weights then names.

    Raises:
        ModelError: the model is none of open_clip's, or has no place for a head and can be given none.
    """
    if not isinstance(backbone, OpenClipBackbone) or backbone.config is None:
        raise ModelError(
            "the model is none of open_clip's architectures",
            where=backbone.spec,
            now="export it with --to transformers",
        )
    config = deepcopy(backbone.config)
    state = placed(backbone, heads)
    for name, head in without_place(backbone, heads).items():
        place, changed = _room_for(backbone, name, config)
        config, state[place] = changed, (head.mT.contiguous() if place.endswith("text_projection") else head.cpu())
    _write_tokenizer(backbone, config, folder)
    save_file(state, folder / HF_SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    settings = asdict(backbone.preprocess_settings)
    about = {"model_cfg": config, "preprocess_cfg": {name: settings[name] for name in PREPROCESSING}}
    (folder / CONFIG_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return _usage(backbone, config)


def _room_for(backbone: OpenClipBackbone, name: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where a head that the architecture has no place for can go, and the configuration that makes the place."""
    model = backbone.model
    if name == "image.weight" and isinstance(model.visual, TimmModel):
        return "visual.head.proj.weight", {**config, "vision_cfg": {**config["vision_cfg"], "timm_proj": "linear"}}
    if name == "text.weight":
        inside = isinstance(model, CLIP)
        if inside or isinstance(model.text, TextTransformer):
            changed = {**config, "text_cfg": {**config["text_cfg"], "proj_type": "linear"}}
            return "text_projection" if inside else "text.text_projection", changed
        return "text.proj.weight", {**config, "text_cfg": {**config["text_cfg"], "hf_proj_type": "linear"}}
    raise ModelError(
        f"the architecture has no place for the head {name}, and what comes before it ends in more than a "
        "linear layer, so that it cannot be folded in",
        where=backbone.spec,
        now="export it with --to heads",
    )


def _write_tokenizer(backbone: OpenClipBackbone, config: dict[str, Any], folder: Path) -> None:
    """Write what open_clip would not find by itself; a vocabulary of one's own is then named by the configuration."""
    tokenizer = backbone.tokenizer
    if isinstance(tokenizer, HFTokenizer):
        tokenizer.save_pretrained(folder)
    elif isinstance(tokenizer, SimpleTokenizer) and tokenizer.vocab_size != STANDARD_VOCABULARY:
        as_clip_tokenizer(tokenizer, backbone.context_length).save_pretrained(folder)
        config["text_cfg"] = {
            **config["text_cfg"],
            "hf_tokenizer_name": ".",
            "tokenizer_kwargs": {"clean": "lower"},
        }


def _usage(backbone: OpenClipBackbone, config: Mapping[str, Any]) -> str:
    """Code that loads the folder; by the architecture's name where its own configuration is the one written."""
    by_folder = "model, _, preprocess = open_clip.create_model_and_transforms('local-dir:FOLDER')"
    tokenizer = "tokenizer = open_clip.get_tokenizer('local-dir:FOLDER')"
    architecture = _architecture(backbone, config)
    if architecture is not None:
        file = f"FOLDER/{HF_SAFE_WEIGHTS_NAME}"
        by_name = f"model, _, preprocess = open_clip.create_model_and_transforms('{architecture}', pretrained='{file}')"
        tokenizer = f"{tokenizer}\n\n# or, with open_clip's own preprocessing of that architecture:\n{by_name}"
    return f"import open_clip\n\n{by_folder}\n{tokenizer}"


def _architecture(backbone: OpenClipBackbone, config: Mapping[str, Any]) -> str | None:
    """The name by which open_clip builds the very model, if there is one."""
    if not backbone.spec.startswith("open_clip:"):
        return None
    named = choose(backbone.spec.removeprefix("open_clip:"))
    names = [named.architecture, f"{named.architecture}-quickgelu"]
    return next((name for name in names if _plain(get_model_config(name)) == _plain(config)), None)


def _plain(config: Any) -> dict[str, Any] | None:
    if not isinstance(config, Mapping):
        return None
    vision = {name: value for name, value in config["vision_cfg"].items() if name != "timm_model_pretrained"}
    return {**config, "vision_cfg": vision}
