"""transformers' CLIP, SigLIP and SigLIP 2 behind the backbone protocol."""

from __future__ import annotations

import json
from math import isqrt
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    CLIPModel,
    PretrainedConfig,
    Siglip2Model,
    SiglipModel,
)

from despur.backbones import hub
from despur.backbones.assembled import TowerBackbone, check_trainable
from despur.backbones.geometry import Framing
from despur.backbones.protocol import AttentionPass
from despur.backbones.tokens import Tokenizer
from despur.backbones.towers.huggingface import HuggingFaceImage, HuggingFaceModel, HuggingFaceText
from despur.errors import ModelError
from despur.workspace import at_home

KINDS: dict[str, type[HuggingFaceModel]] = {"clip": CLIPModel, "siglip": SiglipModel, "siglip2": Siglip2Model}

FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
"""What a model's folder holds, weights possibly in shards."""


class Padded:
    """One of transformers' tokenizers, called as open_clip's are: rows of one length, cut or padded as it does."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Token ids [texts, context], padded to the context; what is longer is cut, and reported by the caller."""
        length = context_length or self.context_length
        found = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return found.input_ids


class HuggingFaceBackbone(TowerBackbone):
    """A ``CLIPModel``, ``SiglipModel`` or ``Siglip2Model``, built already, whose heads are taken off.

    Args:
        model: used where it is, switched to evaluation, its gradients off.
        tokenizer: texts to tokens, see :class:`Padded`.
        processor: transformers' own image processor of the model.
        spec: how the user named the model.
        trainable: "projection"; these models have no attention pool of a ResNet's kind.

    Raises:
        ModelError: the processor frames images in a way that boxes and masks cannot follow.
        SettingsError: there is no such trainable part.
    """

    def __init__(
        self, model: HuggingFaceModel, tokenizer: Tokenizer, processor: Any, *, spec: str, trainable: str = "projection"
    ) -> None:
        check_trainable(trainable, has_pool=False, spec=spec)
        framing = framing_of(processor, spec)
        config: Any = model.config
        patch = int(config.vision_config.patch_size)
        self.processor = processor
        self._side = patch if isinstance(model, Siglip2Model) else None
        self._image = HuggingFaceImage(model, (framing.height // patch, framing.width // patch))
        super().__init__(
            model,
            self._image,
            HuggingFaceText(model),
            tokenizer=tokenizer,
            transform=self._processed,
            framing=framing,
            preprocessing=json.dumps(processor.to_dict(), sort_keys=True, default=str),
            context_length=int(config.text_config.max_position_embeddings),
            spec=spec,
            trainable=trainable,
        )

    def blocks(self) -> int:
        """How many blocks of the vision transformer can show their attention; 0 for SigLIP."""
        return self._image.attentive_blocks

    def attend(
        self, pixels: Float[Tensor, "images 3 height width"], *, keep: int, differentiable: bool = False
    ) -> AttentionPass:
        """The whole image encoder of a CLIP, keeping the attention of its last ``keep`` blocks."""
        return self._image.attend(pixels, keep=keep, differentiable=differentiable)

    def _processed(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        if self._side is None:
            return self.processor(images=image, return_tensors="pt").pixel_values[0]
        # A square of the full size is what every one of SigLIP 2's patches is filled by.
        size = (self.framing.width, self.framing.height)
        square = image.resize(size, Image.Resampling(self.processor.resample))
        cut = self.processor(images=square, return_tensors="pt").pixel_values[0]
        side, rows, columns = self._side, size[1] // self._side, size[0] // self._side
        laid_out = cut.reshape(rows, columns, side, side, 3).permute(4, 0, 2, 1, 3)
        return laid_out.reshape(3, size[1], size[0])


def framing_of(processor: Any, spec: str) -> Framing:
    """What an image processor does with an image's geometry.

    Raises:
        ModelError: it resizes to one size and crops to another, or pads.
    """
    patches = getattr(processor, "max_num_patches", None)
    if patches is not None:
        side = isqrt(patches) * int(processor.patch_size)
        return Framing(side, side, "squash")
    size = dict(processor.size)
    if "height" in size:
        return Framing(int(size["height"]), int(size["width"]), "squash")
    crop = dict(processor.crop_size or {}) if processor.do_center_crop else {}
    if {size.get("shortest_edge")} == {crop.get("height"), crop.get("width")}:
        return Framing(int(crop["height"]), int(crop["width"]), "shortest")
    raise ModelError(
        f"its preprocessing resizes to {size} and crops to {crop or 'nothing'}; boxes and masks cannot follow that",
        where=spec,
        now="choose a model that crops a square of its shorter side, or squashes",
    )


def load_huggingface(
    name: str,
    *,
    random_weights: bool = False,
    trainable: str = "projection",
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> HuggingFaceBackbone:
    """A CLIP, SigLIP or SigLIP 2 of transformers by its name on the hub, or from a folder.

    No code that comes with a model is run.

    Args:
        name: what follows ``hf:`` in a spec: "openai/clip-vit-base-patch32", "./my-model".
        random_weights: draw the weights from ``seed``; for tests and timing. The folder needs no weights then.

    Raises:
        ModelError: it cannot be had, is of another kind, or lacks weights.
        SettingsError: there is no such trainable part.
    """
    spec = f"hf:{name}"
    source = _place(name, spec)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(source)
        kind = KINDS.get(str(config.model_type))
        if kind is None:
            raise ModelError(
                f"it is a {config.model_type}, and despur knows {', '.join(KINDS)}",
                where=spec,
                now="choose one of those, or an open_clip model",
            )
        check_trainable(trainable, has_pool=False, spec=spec)
        model: Any = _drawn(kind, config, seed) if random_weights else _read(kind, source, spec)
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = AutoImageProcessor.from_pretrained(source)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"transformers cannot read it ({str(error).strip().splitlines()[0]})",
            where=spec,
            now=f"the folder must hold {', '.join(FILES)}",
        ) from error
    context = int(model.config.text_config.max_position_embeddings)
    return HuggingFaceBackbone(model.to(device), Padded(tokenizer, context), processor, spec=spec, trainable=trainable)


def _place(name: str, spec: str) -> str:
    """The folder, or the name where the hub's cache has it or the hub answers.

    Raises:
        ModelError: none of these.
    """
    folder = at_home(name)
    if folder.is_dir():
        return str(folder)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or not name:
        raise ModelError("there is no such folder", where=spec, now="check the path behind hf:")
    try:
        hub.expect_files(name, FILES[0])
    except OSError as error:
        wanted = ", ".join(hub.address(name, file) for file in FILES)
        raise ModelError(
            "the model is not on this machine and no hub answers",
            where=spec,
            now=f"fetch {wanted} where there is a network, put them into one folder here and give --model hf:FOLDER",
        ) from error
    return name


def _drawn(kind: type[HuggingFaceModel], config: PretrainedConfig, seed: int) -> HuggingFaceModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)  # pyright: ignore[reportArgumentType]


def _read(kind: type[HuggingFaceModel], source: str, spec: str) -> HuggingFaceModel:
    """The model in float32.

    Raises:
        ModelError: some of its weights are in none of the files; transformers would draw them at random.
    """
    reader: Any = kind
    model, about = reader.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    missing = sorted(about["missing_keys"])
    if missing:
        raise ModelError(
            f"{len(missing)} of its tensors are in no file, the first is {missing[0]}", where=spec, now="fetch it again"
        )
    return model
