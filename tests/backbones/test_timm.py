"""timm's towers inside open_clip: tiny ones of every family, and SigLIP's real one, against the library itself."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import timm
import torch
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from despur.backbones.heads import project_images, project_texts
from despur.backbones.open_clip import OpenClipBackbone, build
from despur.backbones.protocol import Backbone
from despur.backbones.registry import choose, model_config
from despur.errors import ModelError
from despur.explain.gradcam import class_maps

TEXT = {"context_length": 24, "vocab_size": 300, "width": 32, "heads": 4, "layers": 2, "eos_id": 299}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    # name: timm's model, what makes it tiny, how open_clip pools and projects, the explained grid
    "siglip": ("vit_base_patch16_siglip_224", VIT, {"timm_pool": "map", "timm_proj": "none"}, (4, 4)),
    "siglip, projected": ("vit_base_patch16_siglip_224", VIT, {"timm_pool": "map", "timm_proj": None}, (4, 4)),
    "mobileclip b": ("vit_base_patch16_clip_224", VIT, {"timm_pool": "token", "timm_proj": None}, (4, 4)),
    "eva02": ("eva02_base_patch16_clip_224", VIT, {"timm_pool": "token", "timm_proj": None}, (4, 4)),
    "eva02, late norm": (
        "eva02_base_patch16_clip_224",
        {**VIT, "use_post_norm": True, "init_values": None},
        {"timm_pool": "token", "timm_proj": None},
        (4, 4),
    ),
    "eva, scaled": (
        "eva_giant_patch14_224",
        {**VIT, "init_values": 0.5},
        {"timm_pool": "token", "timm_proj": None},
        (4, 4),
    ),
    "mobileclip s": (
        "fastvit_mci0",
        {"layers": (1, 1, 1, 1), "embed_dims": (8, 16, 32, 32)},
        {"timm_pool": "avg", "timm_proj": None},
        (1, 1),
    ),
    "convnext": (
        "convnext_base",
        {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 24)},
        {"timm_pool": "", "timm_proj": "linear"},
        (1, 1),
    ),
    "convnext, mlp": (
        "convnext_base",
        {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 24)},
        {"timm_pool": "", "timm_proj": "mlp"},
        (1, 1),
    ),
}


def words(texts: list[str], context_length: int | None = None) -> Tensor:
    """A token a letter, an end, and padding; cut at the end as open_clip's tokenizers do."""
    rows = torch.zeros(len(texts), context_length or TEXT["context_length"], dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        tokens = [*(1 + ord(letter) % 290 for letter in text[: len(row) - 1]), 299]
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


def away_from_its_start(model: nn.Module) -> None:
    """Give every weight a value: norms and scales begin at ones, biases at zeros, and hide what is left out."""
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        if value.ndim <= 1:
            value.data = 0.5 + 0.2 * torch.randn(value.shape, generator=generator)


def tiny(family: str, *, size: int = 32, text: dict[str, Any] | None = None) -> OpenClipBackbone:
    name, smaller, pooling, _ = FAMILIES[family]
    create = timm.create_model
    config = {
        "embed_dim": 16 if "none" not in pooling.values() else 32,
        "vision_cfg": {"timm_model_name": name, "image_size": size, **pooling},
        "text_cfg": {**TEXT, **(text or {})},
        "custom_text": True,
        "init_logit_bias": -10.0,
    }
    with patch("open_clip.timm_model.timm.create_model", lambda *of, **more: create(*of, **{**more, **smaller})):
        model = build(config, seed=0, spec="tiny")
    away_from_its_start(model)
    return OpenClipBackbone(model, words, spec=f"tiny {family}", config=config)


def pixels(backbone: Backbone, count: int = 3) -> Tensor:
    size = (count, 3, backbone.framing.height, backbone.framing.width)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def check_against_the_library(backbone: OpenClipBackbone) -> None:
    heads, images = backbone.heads(), pixels(backbone)
    texts = backbone.tokenize(["a waterbird", "a boat!"])
    with torch.no_grad():
        own_images, own_texts = backbone.model.encode_image(images), backbone.model.encode_text(texts)
    torch.testing.assert_close(project_images(heads, backbone.image_features(images)), own_images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(project_texts(heads, backbone.text_features(texts)), own_texts, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_through_the_heads_are_the_librarys_own_embeddings(family: str) -> None:
    check_against_the_library(tiny(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_two_halves_of_the_tower_make_the_whole(family: str) -> None:
    backbone = tiny(family)
    output = backbone.trunk(pixels(backbone))
    torch.testing.assert_close(backbone.finish(output), backbone.image_features(pixels(backbone)), atol=1e-5, rtol=1e-5)
    assert output.grid == FAMILIES[family][-1]
    assert output.spatial(output.activations).shape[-2:] == output.grid


def gradcam_by_autograd(backbone: OpenClipBackbone, images: Tensor, prompts: Tensor) -> Tensor:
    """Maps of the last class by the equations: gradient of 100 × cosine at the layer, one image at a time."""
    heads, output, maps = backbone.heads(), backbone.trunk(images), []
    text = nn.functional.normalize(nn.functional.normalize(project_texts(heads, prompts[:, -1]), dim=-1).mean(0), dim=0)
    for row in range(len(images)):
        layer = output.activations[row : row + 1].clone().requires_grad_()
        residual = None if output.residual is None else output.residual[row : row + 1]
        one = type(output)(layer, residual, output.grid, output.prefix_tokens)
        embedded = nn.functional.normalize(project_images(heads, backbone.finish(one))[0], dim=0)
        (gradient,) = torch.autograd.grad(100 * embedded @ text, layer)
        weights = output.spatial(gradient)[0].mean((-2, -1))
        shown = (weights[:, None, None] * output.spatial(layer.detach())[0]).sum(0).relu()
        maps.append((shown - shown.min()) / (shown.max() - shown.min() + 1e-7))
    return torch.stack(maps)


@pytest.mark.parametrize("family", [name for name, entry in FAMILIES.items() if entry[-1] != (1, 1)])
def test_gradcam_explains_every_transformer_as_its_equations_say(family: str) -> None:
    backbone = tiny(family)
    images, prompts = pixels(backbone), torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(2))
    maps = class_maps(backbone, backbone.heads(), images, prompts)
    assert maps.shape == (3, 2, 4, 4)
    torch.testing.assert_close(maps[:, -1], gradcam_by_autograd(backbone, images, prompts), atol=1e-3, rtol=1e-3)
    assert maps[:, -1].amax() > 0.9


@pytest.mark.parametrize("family", ["mobileclip s", "convnext"])
def test_a_convolutional_tower_is_explained_at_the_maps_that_its_pooling_reads(family: str) -> None:
    backbone = tiny(family, size=128)
    images, prompts = pixels(backbone), torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(2))
    maps = class_maps(backbone, backbone.heads(), images, prompts)
    assert maps.shape[-1] > 1
    torch.testing.assert_close(maps[:, -1], gradcam_by_autograd(backbone, images, prompts), atol=1e-3, rtol=1e-3)


def test_siglip_gets_an_identity_head_and_keeps_its_bias() -> None:
    backbone = tiny("siglip")
    heads = backbone.heads()
    assert torch.equal(heads["image.weight"], torch.eye(32))
    assert heads["logit_bias"].item() != 0
    assert "image.weight" not in backbone.places()
    assert "image.bias" in tiny("siglip, projected").heads()


@pytest.mark.parametrize(("projection", "width"), [(None, 32), ("linear", 16), ("mlp", 16)])
def test_a_text_encoder_of_transformers_gives_its_own_embeddings(projection: str | None, width: int) -> None:
    config = RobertaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, pad_token_id=0
    )
    with (
        patch("open_clip.hf_model.AutoConfig.from_pretrained", lambda name: config),
        patch("open_clip.hf_model.AutoModel.from_config", lambda config, **more: RobertaModel(config, **more)),
    ):
        model = CustomTextCLIP(
            embed_dim=width,
            vision_cfg={"image_size": 32, "layers": 1, "width": 32, "head_width": 8, "patch_size": 8},
            text_cfg={
                "hf_model_name": "roberta-base",
                "hf_model_pretrained": False,
                "hf_proj_type": projection,
                "hf_pooler_type": "mean_pooler",
            },
        )
    model.context_length = 24
    backbone = OpenClipBackbone(model, words, spec="tiny roberta")
    check_against_the_library(backbone)
    assert ("text.weight" in backbone.places()) == (projection is not None)


def ends_with_its_padding(texts: list[str], context_length: int | None = None) -> Tensor:
    """SigLIP's tokenizer ends a text with the token that it also pads with."""
    return words(texts, context_length).masked_fill(words(texts, context_length) == 0, 299)


def test_a_text_that_just_fits_is_read_and_a_longer_one_is_named_even_if_it_ends_as_padding_does() -> None:
    backbone = tiny("siglip")
    for tokenizer in (words, ends_with_its_padding):
        backbone.tokenizer = tokenizer
        assert backbone.tokenize(["b" * 23]).shape == (1, 24)
        with pytest.raises(ModelError, match="has 25 tokens, the model reads 24"):
            backbone.tokenize(["short", "b" * 24])
        with pytest.raises(ModelError, match="has 401 tokens"):
            backbone.tokenize(["b" * 400])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ViT-B-16-SigLIP", "EVA02-B-16", "MobileCLIP-S1"])
def test_full_size_towers_give_the_librarys_own_embeddings(architecture: str) -> None:
    choice = choose(architecture)
    model = build(model_config(choice), seed=3, spec=choice.spec)
    tokens = torch.randint(1, 30000, (2, model.context_length))
    backbone = OpenClipBackbone(model, lambda texts, context_length=None: tokens, spec=choice.spec)
    heads, images = backbone.heads(), pixels(backbone, 2)
    with torch.no_grad():
        own_images, own_texts = model.encode_image(images), model.encode_text(tokens)
    torch.testing.assert_close(project_images(heads, backbone.image_features(images)), own_images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(project_texts(heads, backbone.text_features(tokens)), own_texts, atol=1e-5, rtol=1e-5)
    output = backbone.trunk(images)
    torch.testing.assert_close(backbone.finish(output), backbone.image_features(images), atol=1e-5, rtol=1e-5)
