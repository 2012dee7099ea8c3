"""open_clip's models behind the backbone protocol."""

from __future__ import annotations

from textwrap import shorten
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from open_clip import get_model_config, get_tokenizer, list_pretrained_tags_by_model
from open_clip.model import CLIP, CustomTextCLIP, get_model_preprocess_cfg
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import TextTransformer, VisionTransformer
from PIL import Image
from torch import Tensor, nn

from despur.backbones import hub
from despur.backbones.digest import weights_digest
from despur.backbones.geometry import Framing
from despur.backbones.protocol import AttentionPass, LayerOutput
from despur.backbones.registry import Choice, choose, preprocessing, weights_file
from despur.backbones.towers import attention, resnet, transformer
from despur.backbones.towers.views import without
from despur.backbones.weights import from_openai, load_weights, read_state_dict
from despur.errors import ModelError, SettingsError, nearest
from despur.workspace import fingerprint

TRAINABLE = ("projection", "attention-pool")


class Tokenizer(Protocol):
    """What open_clip's tokenizers do: texts to rows of ``context_length`` tokens, cut or padded at the end."""

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor: ...


class OpenClipBackbone:
    """An open_clip model, built already, whose heads are taken off.

    The model's weights are used where they are, not copied; it is switched to evaluation and its gradients off.

    Args:
        model: a ``CLIP`` or ``CustomTextCLIP`` with a ModifiedResNet or VisionTransformer and a TextTransformer.
        tokenizer: the model's own.
        spec: how the user named the model.
        trainable: "projection", or "attention-pool" for a ResNet's whole attention pool (METHOD section 2).
        preprocess: resize, crop and normalisation; None: those that the model carries (``visual.preprocess_cfg``).

    Raises:
        ModelError: a tower that is not one of the above.
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
    ) -> None:
        visual = check_towers(model, spec)
        if trainable not in TRAINABLE:
            raise SettingsError(f"there is no trainable part {trainable!r}", now=nearest(trainable, TRAINABLE))
        if trainable == "attention-pool" and not isinstance(visual, ModifiedResNet):
            raise SettingsError(
                "the model has no attention pool to train", where=spec, now="leave out --trainable attention-pool"
            )
        if preprocess is None:
            preprocess = PreprocessCfg(**get_model_preprocess_cfg(model))
        size = preprocess.size
        height, width = (size, size) if isinstance(size, int) else size
        self.spec = spec
        self.trainable = trainable
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.framing = Framing(height, width, preprocess.resize_mode)
        self.context_length = int(model.context_length)  # pyright: ignore[reportArgumentType]
        self.device = next(model.parameters()).device
        self._visual: Any = visual
        self._preprocess_settings = preprocess
        self._transform: Any = image_transform_v2(preprocess, is_train=False)
        self._text: Any = model.text if isinstance(model, CustomTextCLIP) else model
        self._bare_text: Any = without(self._text, "text_projection")
        self._bare_text.output_tokens = False
        if isinstance(visual, VisionTransformer):
            self._bare_visual: Any = without(visual, "proj")
            self._bare_visual.output_tokens = False
        else:
            self._bare_visual = visual

    def fingerprint(self) -> str:
        """Hexadecimal digest over the weights, the structure around them, preprocessing, tokens and trained part."""
        probe = self.tokenizer(["A quick brown Fox's 23 photos, jpeg!"], context_length=self.context_length)
        return fingerprint(
            weights_digest(self.model),
            {"preprocess": repr(self._preprocess_settings), "trainable": self.trainable, "probe": probe.tolist()},
        )

    def heads(self) -> dict[str, Tensor]:
        """A fresh copy of the pre-trained heads, float32 (``pool.heads`` an integer), on the CPU.

        A tower without a projection gets the identity.
        """
        heads = {**self._image_heads(), **self._text_heads()}
        for name in ("logit_scale", "logit_bias"):
            if name in dict(self.model.named_parameters()):
                heads[name] = self.model.get_parameter(name).reshape(())
        return {
            name: value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)
            for name, value in heads.items()
        }

    def _image_heads(self) -> dict[str, Tensor]:
        visual = self._visual
        if isinstance(visual, ModifiedResNet):
            pool = resnet.pool_parameters(visual)
            if self.trainable == "attention-pool":
                return pool
            return {"image.weight": pool["pool.c.weight"], "image.bias": pool["pool.c.bias"]}
        projection: Any = visual.proj
        weight = torch.eye(visual.ln_post.weight.numel()) if projection is None else projection.mT.contiguous()
        return {"image.weight": weight}

    def _text_heads(self) -> dict[str, Tensor]:
        projection: Any = self._text.text_projection
        if projection is None:
            return {"text.weight": torch.eye(self._text.ln_final.weight.numel())}
        if isinstance(projection, nn.Linear):
            return {f"text.{name}": value for name, value in projection.named_parameters()}
        return {"text.weight": projection.mT.contiguous()}

    def preprocess(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """An RGB image to the encoder's input: open_clip's own evaluation transform."""
        return self._transform(image)

    @torch.no_grad()
    def image_features(self, pixels: Float[Tensor, "images 3 height width"]) -> Tensor:
        """Features before the projection: [images, d_image], or [images, channels, h, w] where the pool is trained."""
        if isinstance(self._visual, ModifiedResNet):
            return self.finish(resnet.trunk(self._visual, pixels))
        return self._bare_visual(pixels)

    def tokenize(self, texts: list[str]) -> Int[Tensor, "texts context"]:
        """The model's own tokens.

        Raises:
            ModelError: a text is longer than the model's context (open_clip would cut it without a word).
        """
        tokens = self.tokenizer(texts, context_length=self.context_length)
        padding = self.tokenizer([""], context_length=self.context_length)[0, -1]
        for row in (tokens[:, -1] != padding).nonzero().flatten().tolist():
            length = self._length(texts[row], int(padding))
            if length > self.context_length:
                raise ModelError(
                    f"the text {shorten(texts[row], 80)!r} has {length} tokens, the model reads {self.context_length}",
                    where=self.spec,
                    now="shorten it",
                )
        return tokens

    def _length(self, text: str, padding: int) -> int:
        """How many tokens a text has: it is given more room until some of it stays empty."""
        room = 4 * self.context_length
        while True:
            tokens = self.tokenizer([text], context_length=room)[0]
            if tokens[-1] == padding:
                return int((tokens != padding).nonzero().max()) + 1
            room *= 4

    @torch.no_grad()
    def text_features(self, tokens: Int[Tensor, "texts context"]) -> Float[Tensor, "texts d_text"]:
        """Features before the text projection."""
        return (
            self._bare_text(tokens) if isinstance(self._text, TextTransformer) else self._bare_text.encode_text(tokens)
        )

    @torch.no_grad()
    def trunk(self, pixels: Float[Tensor, "images 3 height width"]) -> LayerOutput:
        """The encoder up to the explained layer, without gradients."""
        if isinstance(self._visual, ModifiedResNet):
            return resnet.trunk(self._visual, pixels)
        return transformer.trunk(self._visual, pixels)

    def finish(self, output: LayerOutput, shift: Float[Tensor, "images channels"] | None = None) -> Tensor:
        """The rest of the encoder, differentiable and in float32; a ResNet whose pool is trained has no rest."""
        if isinstance(self._visual, ModifiedResNet):
            if self.trainable == "attention-pool":
                return output.activations if shift is None else output.shifted(shift).activations
            return resnet.finish(self._visual, output.activations, shift)
        output = output.in_float32()
        assert output.residual is not None, "a vision transformer's trunk keeps its residual stream"
        visual = transformer.end_in_float32(self._visual)
        if shift is None:
            return transformer.finish(visual, output.activations, output.residual)
        if transformer.reads_class_token_only(visual):
            return transformer.finish_class_token(visual, output.activations, output.residual, shift)
        return transformer.finish(visual, output.shifted(shift).activations, output.residual)

    def blocks(self) -> int:
        """How many blocks a vision transformer has whose attention can be shown; 0 for any other tower."""
        visual = self._visual
        shown = isinstance(visual, VisionTransformer) and attention.shows_attention(visual)
        return len(visual.transformer.resblocks) if shown else 0

    def attend(
        self, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool = False
    ) -> AttentionPass:
        """The whole image encoder, keeping the attention of its last ``keep`` blocks."""
        return attention.attend(self._visual, pixels, keep=keep, differentiable=differentiable)


def check_towers(model: nn.Module, spec: str) -> ModifiedResNet | VisionTransformer:
    """The image tower, if both towers are of a kind that this module knows.

    Raises:
        ModelError: one of them is not.
    """
    if not isinstance(model, CLIP | CustomTextCLIP):
        raise ModelError(f"open_clip's {type(model).__name__} is not a pair of encoders that despur knows", where=spec)
    visual = model.visual
    known = isinstance(visual, ModifiedResNet | VisionTransformer)
    if not known or (isinstance(visual, VisionTransformer) and visual.pool_type == "none"):
        raise ModelError(
            f"its image tower ({type(visual).__name__}) is of a kind that despur does not know",
            where=spec,
            now="choose a CLIP model with a ResNet or a ViT of open_clip's own, such as RN50 or ViT-B-32",
        )
    if isinstance(model, CustomTextCLIP) and not isinstance(model.text, TextTransformer):
        raise ModelError(
            f"its text tower ({type(model.text).__name__}) is of a kind that despur does not know",
            where=spec,
            now="choose a CLIP model with open_clip's own text tower",
        )
    return visual


def check_config(choice: Choice) -> dict[str, Any]:
    """The architecture's configuration, read before anything is fetched or built.

    Raises:
        ModelError: a tower is of a kind that this module does not know.
    """
    config: dict[str, Any] = get_model_config(choice.architecture) or {}
    foreign = {
        "timm": "timm_model_name" in config["vision_cfg"],
        "transformers": "hf_model_name" in config["text_cfg"],
        "CoCa": "multimodal_cfg" in config,
    }
    for kind, present in foreign.items():
        if present:
            raise ModelError(
                f"{choice.architecture} has a tower of {kind}, which despur does not know yet",
                where=choice.spec,
                now="choose a CLIP model with towers of open_clip's own, such as RN50 or ViT-B-32",
            )
    return config


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
        spec_tail: what follows ``open_clip:`` in a spec: "RN50/openai" (a tag), "RN50/FILE", or "RN50" alone with
            ``random_weights``.
        random_weights: draw the weights from ``seed`` (the global generator is left as it was); for tests and timing.
        trainable: "projection" or "attention-pool".

    Raises:
        ModelError: no such architecture or tag, an architecture without weights, weights that cannot be had, cannot
            be read safely or do not fit, a tower that despur does not know.
        SettingsError: see :class:`OpenClipBackbone`.
    """
    choice = choose(spec_tail)
    if choice.tag is None and choice.file is None and not random_weights:
        raise ModelError(
            f"{choice.architecture} is an architecture without weights",
            where=choice.spec,
            now=f"pass --random-weights or a tag ({', '.join(list_pretrained_tags_by_model(choice.architecture))})",
        )
    config = check_config(choice)
    state = None if random_weights else read_state_dict(weights_file(choice))
    if choice.settings.get("quick_gelu") or (state is not None and from_openai(state)):
        config["quick_gelu"] = True
    tokenizer = _tokenizer(choice, config)
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = kind(**config)
    if state is not None:
        load_weights(model, state, choice.file or choice.spec)
    return OpenClipBackbone(
        model.to(device),
        tokenizer,
        spec=choice.spec,
        trainable=trainable,
        preprocess=preprocessing(choice, model.visual.image_size),
    )


def _tokenizer(choice: Choice, config: dict[str, Any]) -> Tokenizer:
    name = config["text_cfg"].get("hf_tokenizer_name")
    try:
        if name:
            hub.expect_files(name, "tokenizer_config.json")
        return get_tokenizer(choice.architecture)
    except OSError as error:
        raise ModelError(
            f"its tokenizer {name!r} is not on this machine and no hub answers",
            where=choice.spec,
            now=f"run `hf download {name}` where there is a network and copy the hub's cache folder here",
        ) from error
