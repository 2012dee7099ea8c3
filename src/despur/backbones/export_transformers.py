"""A backbone as a folder that transformers' ``AutoModel`` and its zero-shot pipeline read without despur."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from despur.backbones.clip_tokenizer import as_clip_tokenizer
from despur.backbones.heads import Heads
from despur.backbones.huggingface import HuggingFaceBackbone
from despur.backbones.open_clip import OpenClipBackbone
from despur.backbones.placing import placed, without_place
from despur.backbones.protocol import Backbone
from despur.errors import ModelError

USAGE = """from transformers import pipeline

classify = pipeline("zero-shot-image-classification", model="FOLDER")
classify("photograph.jpg", candidate_labels=["waterbird", "landbird"], hypothesis_template="a photo of a {}.")"""

_HERE = "export it with --to open-clip or --to heads"


def write_transformers(backbone: Backbone, heads: Heads, folder: Path) -> str:
    """Write model, tokenizer and image processor; returns code that loads them.

    open_clip's own CLIP transformers become a ``CLIPModel``.

    Raises:
        ModelError: transformers has no such model, or no place for a head.
    """
    if isinstance(backbone, HuggingFaceBackbone):
        _write_own(backbone, heads, folder)
    elif isinstance(backbone, OpenClipBackbone):
        _write_converted(backbone, heads, folder)
    else:
        raise ModelError("transformers has no such model", where=backbone.spec, now="export it with --to heads")
    return USAGE


def _write_own(backbone: HuggingFaceBackbone, heads: Heads, folder: Path) -> None:
    for name in without_place(backbone, heads):
        raise ModelError(
            f"transformers' {type(backbone.model).__name__} has no place for the head {name}: its pooling ends in a "
            "residual sum, into which a linear layer cannot be folded",
            where=backbone.spec,
            now="export it with --to heads, or study the same model of open_clip and export it with --to open-clip",
        )
    backbone.model.save_pretrained(folder, state_dict=placed(backbone, heads))
    backbone.processor.save_pretrained(folder)
    tokenizer: Any = backbone.tokenizer
    tokenizer.tokenizer.save_pretrained(folder)


def _write_converted(backbone: OpenClipBackbone, heads: Heads, folder: Path) -> None:
    reason = _why_not(backbone)
    if reason is not None:
        raise ModelError(f"transformers' CLIPModel cannot be it: {reason}", where=backbone.spec, now=_HERE)
    for name in without_place(backbone, heads):
        raise ModelError(
            f"there is no place for the head {name}", where=backbone.spec, now="export it with --to open-clip"
        )
    config = _clip_config(backbone)
    with torch.device("meta"):
        model: Any = CLIPModel(config)
    positions = {name: value for name, value in _buffers(config).items() if name in dict(model.named_buffers())}
    model.load_state_dict({**_renamed(backbone, placed(backbone, heads)), **positions}, assign=True, strict=False)
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    assert not missing, f"the conversion names no tensor for {missing}"
    model.save_pretrained(folder)
    tokenizer: Any = backbone.tokenizer
    own = isinstance(tokenizer, SimpleTokenizer)
    (as_clip_tokenizer(tokenizer, backbone.context_length) if own else tokenizer.tokenizer).save_pretrained(folder)
    _processor(backbone).save_pretrained(folder)


def _why_not(backbone: OpenClipBackbone) -> str | None:
    """What of an open_clip model ``CLIPModel`` does not compute; None: nothing."""
    model: Any = backbone.model
    visual: Any = model.visual
    text: Any = _text_of(model)
    if not isinstance(visual, VisionTransformer):
        return f"its image tower is a {type(visual).__name__}, and CLIPModel has a vision transformer"
    if not isinstance(text, CLIP | TextTransformer):
        return "its text tower is no CLIP text transformer"
    pool = model.text_pool_type if isinstance(model, CLIP) else text.pool_type
    blocks = [*visual.transformer.resblocks, *text.transformer.resblocks]
    found = {
        "its blocks are not CLIP's": any(type(block) is not ResidualAttentionBlock for block in blocks),
        "its blocks scale their residuals": any(not isinstance(block.ls_1, nn.Identity) for block in blocks),
        "its images are pooled otherwise": visual.pool_type != "tok"
        or visual.attn_pool is not None
        or visual.final_ln_after_pool,
        "it does not normalise its patches": isinstance(visual.ln_pre, nn.Identity),
        "its texts are pooled otherwise": pool != "argmax" or getattr(text, "cls_emb", None) is not None,
        "its text tower looks ahead": text.attn_mask is None,
        "its logits have a bias": getattr(model, "logit_bias", None) is not None,
        "its text projection has a bias": "text.bias" in backbone.places(),
        "it lacks a text projection": "text.weight" not in backbone.places(),
        "its images are padded": backbone.framing.mode == "longest",
        "its tokenizer is not CLIP's": not isinstance(backbone.tokenizer, SimpleTokenizer | HFTokenizer),
        "its activation is not CLIP's": _activation(visual) is None or _activation(visual) != _activation(text),
    }
    return next((reason for reason, holds in found.items() if holds), None)


def _text_of(model: Any) -> Any:
    """The text tower, whose parts a ``CLIP`` holds itself."""
    return model if isinstance(model, CLIP) else model.text


def _activation(tower: Any) -> str | None:
    activation = tower.transformer.resblocks[0].mlp.gelu
    if isinstance(activation, QuickGELU):
        return "quick_gelu"
    return "gelu" if isinstance(activation, nn.GELU) and activation.approximate == "none" else None


def _tower_sizes(tower: Any, width: int) -> dict[str, Any]:
    block = tower.transformer.resblocks[0]
    return {
        "hidden_size": width,
        "intermediate_size": int(block.mlp.c_fc.out_features),
        "num_hidden_layers": len(tower.transformer.resblocks),
        "num_attention_heads": int(block.attn.num_heads),
        "hidden_act": _activation(tower),
        "layer_norm_eps": float(block.ln_1.eps),
    }


def _clip_config(backbone: OpenClipBackbone) -> CLIPConfig:
    model: Any = backbone.model
    visual: Any = model.visual
    text: Any = _text_of(model)
    vocabulary, width = text.token_embedding.weight.shape
    end = vocabulary - 1  # open_clip reads the highest token, which is the end of the text
    return CLIPConfig(
        projection_dim=int(visual.proj.shape[1]),
        text_config={
            **_tower_sizes(text, int(width)),
            "vocab_size": int(vocabulary),
            "max_position_embeddings": backbone.context_length,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            **_tower_sizes(visual, int(visual.conv1.out_channels)),
            "image_size": backbone.framing.height,
            "patch_size": int(visual.patch_size[0]),
        },
    )


def _buffers(config: Any) -> dict[str, Tensor]:
    """Position numbers, which transformers keeps beside the weights."""
    patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    return {
        "text_model.embeddings.position_ids": torch.arange(config.text_config.max_position_embeddings)[None],
        "vision_model.embeddings.position_ids": torch.arange(patches + 1)[None],
    }


def _renamed(backbone: OpenClipBackbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's tensors under the names of ``CLIPModel``."""
    inside = isinstance(backbone.model, CLIP)
    text = "" if inside else "text."
    projection = state[backbone.places()["text.weight"].name]
    weights = {
        "logit_scale": state["logit_scale"].reshape(()),
        "visual_projection.weight": state["visual.proj"].mT,
        "text_projection.weight": projection.mT if backbone.places()["text.weight"].transposed else projection,
        "text_model.embeddings.token_embedding.weight": state[f"{text}token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state[f"{text}positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {
        "text_model.final_layer_norm": f"{text}ln_final",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
    }
    for theirs, ours in norms.items():
        weights |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    for theirs, ours in (("text_model", text), ("vision_model", "visual.")):
        weights |= _blocks(f"{theirs}.encoder.layers.", f"{ours}transformer.resblocks.", state)
    return {name: value.contiguous() for name, value in weights.items()}


_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _blocks(theirs: str, ours: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every block's tensors; the attention's joint input projection is taken apart."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(ours):
            continue
        number, _, part = name.removeprefix(ours).partition(".")
        module, _, kind = part.rpartition(".")
        if kind.startswith("in_proj_"):
            for letter, rows in zip("qkv", value.chunk(3), strict=True):
                found[f"{theirs}{number}.self_attn.{letter}_proj.{kind.removeprefix('in_proj_')}"] = rows
        else:
            found[f"{theirs}{number}.{_PARTS[module]}.{kind}"] = value
    return found


def _processor(backbone: OpenClipBackbone) -> Any:
    """The same preprocessing in transformers' words, which round a crop's place up to a pixel otherwise."""
    settings, framing = backbone.preprocess_settings, backbone.framing
    square = {"height": framing.height, "width": framing.width}
    crops = framing.mode == "shortest"
    return CLIPImageProcessor(
        size={"shortest_edge": framing.height} if crops else square,
        do_center_crop=crops,
        crop_size=square,
        resample=getattr(Image.Resampling, settings.interpolation.upper(), Image.Resampling.BICUBIC),
        image_mean=list(settings.mean),
        image_std=list(settings.std),
    )
