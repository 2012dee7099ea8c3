"""Grad-CAM of transformers' CLIP and SigLIP, with random weights, against the published package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from despur.backbones.heads import class_embeddings
from despur.backbones.huggingface import HuggingFaceBackbone
from despur.errors import ModelError
from despur.explain.gradcam import class_maps
from despur.explain.maps import scale_maps
from despur.explain.methods import RELEVANCE, find_map_method

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CLASSES, SIDE, GRID = 3, 48, 6


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def backbone_of(kind: str) -> HuggingFaceBackbone:
    text = {
        **SIZES,
        "vocab_size": 16,
        "max_position_embeddings": 8,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = {**SIZES, "image_size": SIDE, "patch_size": SIDE // GRID}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "clip":
            model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
            processor: Any = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
        else:
            model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision))
            processor = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
        for weight in model.parameters():
            if weight.ndim == 1:
                nn.init.normal_(weight, mean=0.5, std=0.2)
    return HuggingFaceBackbone(model, lambda texts, context_length=None: torch.zeros(0), processor, spec=kind)


class Classifier(nn.Module):
    """The library's own image features with 100 × cosine on top."""

    def __init__(self, model: Any, classes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.classes = nn.Parameter(classes)

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.model.get_image_features(pixel_values=pixels)
        features = found if isinstance(found, Tensor) else found.pooler_output
        return 100 * nn.functional.normalize(features, dim=-1) @ self.classes.mT


class LayerGradCAM(GradCAM):
    """The package's Grad-CAM, its maps left at the layer's resolution."""

    def get_target_width_height(self, input_tensor: Tensor) -> tuple[int, int]:
        return GRID, GRID


@pytest.mark.parametrize(("kind", "prefix"), [("clip", 1), ("siglip", 0)])
def test_maps_equal_the_published_package(kind: str, prefix: int):
    backbone = backbone_of(kind)
    pixels, prompts = drawn(2, 3, SIDE, SIDE, seed=1), drawn(4, CLASSES, 32, seed=2)
    maps = class_maps(backbone, backbone.heads(), pixels, prompts)
    model: Any = backbone.model
    classifier = Classifier(model, class_embeddings(backbone.heads(), prompts))
    layer = model.vision_model.encoder.layers[-1].layer_norm1
    reshape = lambda tokens: tokens[:, prefix:].mT.unflatten(-1, (GRID, GRID))  # noqa: E731
    with LayerGradCAM(classifier, [layer], reshape_transform=reshape) as package:
        inputs = pixels.clone().requires_grad_()
        judged = [package(inputs, targets=[ClassifierOutputTarget(label)] * 2) for label in range(CLASSES)]
    expected = torch.from_numpy(np.stack(judged, axis=1))
    assert expected.amax() > 0.9
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


def test_the_attention_shown_is_the_librarys_own_and_the_features_are_the_encoders():
    backbone = backbone_of("clip")
    pixels = drawn(2, 3, SIDE, SIDE, seed=1)
    seen = backbone.attend(pixels, keep=2, differentiable=True)
    model: Any = backbone.model
    model.vision_model.config._attn_implementation = "eager"
    own = model.vision_model(pixels, output_attentions=True)
    for shown, expected in zip(seen.attentions, own.attentions, strict=True):
        torch.testing.assert_close(shown.detach(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(seen.features.detach(), backbone.image_features(pixels), atol=1e-5, rtol=1e-4)
    tokens = model.vision_model.post_layernorm(own.last_hidden_state)[:, 1:]
    torch.testing.assert_close(seen.tokens, tokens, atol=1e-5, rtol=1e-4)


def test_relevance_of_the_last_block_follows_the_gradient_of_the_librarys_own_attention():
    backbone = backbone_of("clip")
    pixels, prompts = drawn(2, 3, SIDE, SIDE, seed=1), drawn(4, CLASSES, 32, seed=2)
    model: Any = backbone.model
    model.vision_model.config._attn_implementation = "eager"
    model.requires_grad_(True)
    own = model.vision_model(pixels, output_attentions=True)
    attention = own.attentions[-1]
    features = nn.functional.normalize(model.visual_projection(own.pooler_output), dim=-1)
    scores = 100 * features @ class_embeddings(backbone.heads(), prompts).mT
    rows = torch.stack(
        [
            (torch.autograd.grad(scores[:, label].sum(), attention, retain_graph=True)[0] * attention)
            .clamp(min=0)
            .mean(1)[:, 0, 1:]
            for label in range(CLASSES)
        ],
        dim=1,
    )
    model.requires_grad_(False)
    expected = scale_maps(rows.detach()).unflatten(-1, (GRID, GRID))
    maps = RELEVANCE.class_maps(backbone, backbone.heads(), pixels, prompts)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["relevance", "rollout", "similarity"])
def test_siglip_is_refused_by_what_reads_the_attention(name: str):
    with pytest.raises(ModelError, match="shows none"):
        find_map_method(name).check(backbone_of("siglip"))
