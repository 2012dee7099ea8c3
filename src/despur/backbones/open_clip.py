"""open_clip's models behind the backbone protocol."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIP, CustomTextCLIP, get_model_preprocess_cfg
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from despur.backbones.assembled import TowerBackbone, check_trainable
from despur.backbones.geometry import Framing
from despur.backbones.protocol import AttentionPass
from despur.backbones.registry import choose_weights, model_config, preprocessing, tokenizer_of, weights_file
from despur.backbones.tokens import Tokenizer
from despur.backbones.towers import attention
from despur.backbones.towers.resnet import ResNetTower
from despur.backbones.towers.text import ClipText, EncoderText
from despur.backbones.towers.timm import TimmTower
from despur.backbones.towers.tower import ImageTower, TextTower
from despur.backbones.towers.transformer import TransformerTower
from despur.backbones.weights import from_openai, load_weights, read_state_dict
from despur.errors import ModelError


class OpenClipBackbone(TowerBackbone):
    """An open_clip model, built already, whose heads are taken off.

    The model's weights are used where they are, not copied; it is switched to evaluation and its gradients off.

    Args:
        model: a ``CLIP`` or ``CustomTextCLIP``.
        tokenizer: the model's own.
        spec: how the user named the model.
        trainable: "projection", or "attention-pool" for a ResNet's whole attention pool (METHOD section 2).
        preprocess: resize, crop and normalisation; None: those that the model carries (``visual.preprocess_cfg``).
        config: what open_clip builds the model from, for export; None: not known.

    Raises:
        ModelError: a tower that despur does not know.
        SettingsError: ``trainable`` is unknown, or asks for an attention pool that the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        spec: str,
        trainable: str = "projection",
        preprocess: PreprocessCfg | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(model, CLIP | CustomTextCLIP):
            raise ModelError(
                f"open_clip's {type(model).__name__} is not a pair of encoders that despur knows",
                where=spec,
                now="choose a CLIP model with two encoders, such as RN50 or ViT-B-32",
            )
        image, text = image_tower(model, spec, trainable), text_tower(model, spec)
        if preprocess is None:
            preprocess = PreprocessCfg(**get_model_preprocess_cfg(model))
        size = preprocess.size
        height, width = (size, size) if isinstance(size, int) else size
        transform: Any = image_transform_v2(preprocess, is_train=False)
        self.config = config
        self.preprocess_settings = preprocess
        super().__init__(
            model,
            image,
            text,
            tokenizer=tokenizer,
            transform=transform,
            framing=Framing(height, width, preprocess.resize_mode),
            preprocessing=repr(preprocess),
            context_length=int(model.context_length),
            spec=spec,
            trainable=trainable,
        )

    def blocks(self) -> int:
        """How many blocks a vision transformer has whose attention can be shown; 0 for any other tower."""
        visual = self.model.visual
        shown = isinstance(visual, VisionTransformer) and attention.shows_attention(visual)
        return len(visual.transformer.resblocks) if shown else 0

    def attend(
        self, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool = False
    ) -> AttentionPass:
        """The whole image encoder, keeping the attention of its last ``keep`` blocks."""
        return attention.attend(self.model.visual, pixels, keep=keep, differentiable=differentiable)


def image_tower(model: CLIP | CustomTextCLIP, spec: str, trainable: str) -> ImageTower:
    """The image tower with its heads off.

    Raises:
        ModelError: it is of a kind that despur does not know.
        SettingsError: it has no such trainable part.
    """
    visual = model.visual
    check_trainable(trainable, has_pool=isinstance(visual, ModifiedResNet), spec=spec)
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual, whole_pool=trainable == "attention-pool")
    if isinstance(visual, VisionTransformer) and visual.pool_type != "none":
        return TransformerTower(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual, spec)
    raise ModelError(
        f"its image tower ({type(visual).__name__}) is of a kind that despur does not know",
        where=spec,
        now="choose a CLIP model whose image tower gives one vector an image, such as RN50 or ViT-B-32",
    )


def text_tower(model: CLIP | CustomTextCLIP, spec: str) -> TextTower:
    """The text tower with its projection off.

    Raises:
        ModelError: it is of a kind that despur does not know.
    """
    text: Any = None if isinstance(model, CLIP) else model.text
    if text is None or isinstance(text, TextTransformer):
        return ClipText(model)
    if isinstance(text, HFTextEncoder):
        return EncoderText(text)
    raise ModelError(
        f"its text tower ({type(text).__name__}) is of a kind that despur does not know",
        where=spec,
        now="choose a CLIP model with open_clip's own text tower",
    )


def load_open_clip(
    spec_tail: str,
    *,
    random_weights: bool = False,
    trainable: str = "projection",
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> OpenClipBackbone:
    """One of open_clip's models by name.

    Args:
        spec_tail: what follows ``open_clip:`` in a spec: "RN50/openai" (a tag), "RN50/FILE", "hf-hub:OWNER/NAME",
            "local-dir:DIR", or "RN50" alone with ``random_weights``.
        random_weights: draw the weights from ``seed`` (the global generator is left as it was); for tests and timing.
        trainable: "projection" or "attention-pool".

    Raises:
        ModelError: no such architecture or tag, an architecture without weights, weights that cannot be had, cannot
            be read safely or do not fit, a tower that despur does not know.
        SettingsError: see :class:`OpenClipBackbone`.
    """
    choice = choose_weights(spec_tail, random_weights=random_weights)
    config = model_config(choice)
    state = None if random_weights else read_state_dict(weights_file(choice))
    if choice.settings.get("quick_gelu") or (state is not None and from_openai(state)):
        config["quick_gelu"] = True
    tokenizer = tokenizer_of(choice, config)
    model = build(config, seed=seed, spec=choice.spec)
    if state is not None:
        load_weights(model, state, choice.file or choice.spec)
    return OpenClipBackbone(
        model.to(device),
        tokenizer,
        spec=choice.spec,
        trainable=trainable,
        preprocess=preprocessing(choice, model.visual.image_size),
        config=config,
    )


def build(config: dict[str, Any], *, seed: int, spec: str) -> Any:
    """The model of a configuration, its weights drawn from ``seed``; nothing is fetched for its towers.

    Raises:
        ModelError: open_clip or timm cannot build it, or a text encoder's own configuration cannot be had.
    """
    parts = {name: value for name, value in config.items() if name != "custom_text"}
    foreign = "hf_model_name" in config["text_cfg"]
    kind = CustomTextCLIP if config.get("custom_text") or foreign else CLIP
    if foreign:
        parts["text_cfg"] = {**config["text_cfg"], "hf_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return kind(**parts)
        except OSError as error:
            name = config["text_cfg"].get("hf_model_name")
            raise ModelError(
                f"the configuration of its text encoder {name!r} is not on this machine and no hub answers",
                where=spec,
                now=f"run `hf download {name} config.json` where there is a network and copy the hub's cache here",
            ) from error
        except (RuntimeError, TypeError, AssertionError, KeyError) as error:
            raise ModelError(
                f"open_clip cannot build it ({error})", where=spec, now="check its configuration"
            ) from error
