"""The two small CLIPs that ship with the package: ordinary open_clip models from a folder of config and weights.

``weights/resnet`` and ``weights/vit`` are each what open_clip calls a local directory (``open_clip_config.json`` beside
``open_clip_model.safetensors``), with a card that says what the model was trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from despur.backbones.open_clip import OpenClipBackbone
from despur.birdland.tokens import load_tokenizer
from despur.errors import ModelError, nearest

SmallName = Literal["resnet", "vit"]
SMALL_NAMES: tuple[str, ...] = get_args(SmallName)

WEIGHTS = Path(__file__).parent / "weights"
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
CARD_FILE = "card.json"


@dataclass(frozen=True)
class SmallClip:
    """A small CLIP with all that belongs to it.

    Attributes:
        name: "resnet" (CLIP's modified ResNet with an attention pool) or "vit".
        model: open_clip's ``CLIP``, in evaluation mode.
        tokenizer: texts to tokens, [texts, context].
        preprocessing: resize, crop and normalisation, in open_clip's words; ``size`` is the side of the input, pixels.
    """

    name: str
    model: CLIP
    tokenizer: SimpleTokenizer
    preprocessing: PreprocessCfg


def read_config(name: str) -> dict[str, Any]:
    """The architecture ("model_cfg") and preprocessing ("preprocess_cfg") of a small model, in open_clip's words.

    Raises:
        ModelError: no small model has this name.
    """
    if name not in SMALL_NAMES:
        raise ModelError(f"no built-in model is called {name!r}", where="birdland", now=nearest(name, SMALL_NAMES))
    return json.loads((WEIGHTS / name / CONFIG_FILE).read_text())


def read_card(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What a small model was trained on, how, and what it scored; as ``despur.birdland.train`` wrote it."""
    path = (folder or WEIGHTS / name) / CARD_FILE
    if not path.is_file():
        raise ModelError("the model's card is missing", where=path, now=_rebuild(name))
    return json.loads(path.read_text())


def new_small(name: str, seed: int, image_size: int | None = None) -> SmallClip:
    """An untrained small model; its weights are drawn from ``seed`` and the global generator is left as it was.

    Args:
        image_size: side of the encoder's input, pixels; the config's when not given.
    """
    config = read_config(name)
    if image_size is not None:
        config["model_cfg"]["vision_cfg"]["image_size"] = image_size
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = CLIP(**config["model_cfg"])
    return _completed(name, model, config)


def resized(small: SmallClip, image_size: int | None = None) -> SmallClip:
    """A copy of a model for another image size: its grid of positions is interpolated.

    Args:
        image_size: side of the encoder's input, pixels; the config's when not given.
    """
    whole = new_small(small.name, 0, image_size)
    name = "visual.attnpool.positional_embedding" if small.name == "resnet" else "visual.positional_embedding"
    weights = dict(small.model.state_dict())
    side = int((len(whole.model.state_dict()[name]) - 1) ** 0.5)
    weights[name] = _interpolated(weights[name], side)
    whole.model.load_state_dict(weights)
    return whole


def _interpolated(positions: Float[Tensor, "positions dim"], side: int) -> Float[Tensor, "more_positions dim"]:
    """Embeddings of a class token (or mean) and a square grid, the grid resized to ``side`` rows and columns."""
    first, grid = positions[:1], positions[1:]
    old = int(len(grid) ** 0.5)
    laid_out = grid.mT.unflatten(-1, (old, old)).unsqueeze(0)
    resized = F.interpolate(laid_out, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, resized.squeeze(0).flatten(-2).mT])


def load_small(name: str, folder: Path | None = None) -> SmallClip:
    """A small model with its trained weights, float32, on the CPU.

    Args:
        name: "resnet" or "vit".
        folder: where ``despur.birdland.train --out`` wrote the model; the shipped one when not given.

    Raises:
        ModelError: no small model has this name, or its weights are missing or of another shape.
    """
    config = read_config(name)
    path = (folder or WEIGHTS / name) / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError("the model's weights are missing", where=path, now=_rebuild(name))
    small = new_small(name, seed=0)
    try:
        small.model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            "the weights are damaged or do not fit the model's config", where=path, now=_rebuild(name)
        ) from error
    return _completed(name, small.model, config)


def load_birdland(
    spec_tail: str, *, trainable: str = "projection", device: str | torch.device = "cpu"
) -> OpenClipBackbone:
    """A small model as a backbone.

    Args:
        spec_tail: what follows ``birdland:`` in a model spec, "resnet" or "vit"; empty is "resnet".
        trainable: as for any open_clip model (METHOD section 2).

    Raises:
        ModelError: no small model has this name, or its weights are missing.
        SettingsError: ``trainable`` is unknown, or asks for an attention pool that the model does not have.
    """
    small = load_small(spec_tail or "resnet")
    return as_backbone(replace(small, model=small.model.to(device)), trainable=trainable)


def as_backbone(small: SmallClip, *, trainable: str = "projection") -> OpenClipBackbone:
    """A small model behind the backbone protocol; its weights are used where they are and are no longer trained."""
    return OpenClipBackbone(
        small.model,
        small.tokenizer,
        spec=f"birdland:{small.name}",
        trainable=trainable,
        preprocess=small.preprocessing,
        config=_config(small),
    )


def _config(small: SmallClip) -> dict[str, Any]:
    """What open_clip builds the model from, at the image size that it has."""
    config: dict[str, Any] = read_config(small.name)["model_cfg"]
    return {**config, "vision_cfg": {**config["vision_cfg"], "image_size": small.preprocessing.size}}


def _completed(name: str, model: CLIP, config: dict[str, Any]) -> SmallClip:
    preprocessing = PreprocessCfg(size=config["model_cfg"]["vision_cfg"]["image_size"], **config["preprocess_cfg"])
    tokenizer = load_tokenizer(context_length=config["model_cfg"]["text_cfg"]["context_length"])
    return SmallClip(name, model.eval(), tokenizer, preprocessing)


def _rebuild(name: str) -> str:
    return f"reinstall despur or rebuild it with `python -m despur.birdland.train {name}`"
