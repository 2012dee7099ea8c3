"""Map methods under one protocol, each against a loop written from its paper's equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from despur.backbones.heads import class_embeddings, class_logits
from despur.backbones.open_clip import OpenClipBackbone
from despur.errors import ModelError, SettingsError
from despur.explain.gradcam import class_maps, explained_classes
from despur.explain.maps import scale_maps
from despur.explain.methods import GRADCAM, MAP_METHODS, find_map_method
from despur.explain.relevance import RELEVANCE, relevance_method
from despur.explain.rollout import ROLLOUT
from despur.explain.similarity import SIMILARITY

TEXT = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
VIT = {"layers": 3, "width": 32, "head_width": 8, "patch_size": 16, "image_size": 64}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 96, "head_width": 32}
TRANSFORMER_ONLY = ["relevance", "rollout", "similarity"]


def backbone_of(vision: dict[str, Any], **more: object) -> OpenClipBackbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(embed_dim=24, vision_cfg={**vision, **more}, text_cfg=TEXT, output_dict=False)
        for weight in model.parameters():
            if weight.ndim == 1:
                nn.init.normal_(weight, mean=0.5, std=0.5)
            elif weight.ndim == 2:
                nn.init.normal_(weight, std=0.2)  # attention that differs from place to place
    return OpenClipBackbone(model, lambda texts, context_length=None: torch.zeros(0), spec="small")


@pytest.fixture(scope="module")
def vit() -> OpenClipBackbone:
    return backbone_of(VIT)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PIXELS, PROMPTS = drawn(2, 3, 64, 64, seed=1), drawn(4, 3, 32, seed=2)


def attention_by_hook(backbone: OpenClipBackbone, pixels: Tensor, classes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Each block's attention and, [classes, images, heads, tokens, tokens], the gradient of each class's logit by it.

    The library's own blocks run; only their attention is replaced, by one written out.
    """
    visual: Any = backbone.model.visual
    kept: list[Tensor] = []

    def plain(block: Any):
        def attention(q_x: Tensor, **_: object) -> Tensor:
            module, heads = block.attn, []
            width = q_x.shape[-1] // module.num_heads
            projected = q_x @ module.in_proj_weight.T + module.in_proj_bias
            query, key, value = projected.chunk(3, dim=-1)
            for head in range(module.num_heads):
                part = slice(head * width, (head + 1) * width)
                heads.append(torch.softmax(query[..., part] @ key[..., part].mT / width**0.5, dim=-1))
            stacked = torch.stack(heads, dim=1)
            stacked.requires_grad_() if not stacked.requires_grad else stacked.retain_grad()
            kept.append(stacked)
            mixed = [stacked[:, h] @ value[..., h * width : (h + 1) * width] for h in range(module.num_heads)]
            return module.out_proj(torch.cat(mixed, dim=-1))

        return attention

    for block in visual.transformer.resblocks:
        block.attention = plain(block)
    try:
        logits = 100 * backbone.model.encode_image(pixels, normalize=True) @ classes.mT
    finally:
        for block in visual.transformer.resblocks:
            del block.attention
    gradients = [torch.autograd.grad(logits[:, c].sum(), kept, retain_graph=True) for c in range(len(classes))]
    return [a.detach() for a in kept], [torch.stack(parts) for parts in zip(*gradients, strict=True)]


def relevance_by_loop(attentions: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Chefer et al.'s Eqs. 5 and 6 with whole matrices; [images, classes, positions] of the class token's row."""
    classes, images, _, tokens, _ = gradients[0].shape
    rows = torch.zeros(images, classes, tokens - 1)
    for image in range(images):
        for label in range(classes):
            relevance = torch.eye(tokens)
            for attention, gradient in zip(attentions, gradients, strict=True):
                mean = (gradient[label, image] * attention[image]).clamp(min=0).mean(0)
                relevance = relevance + mean @ relevance
            rows[image, label] = relevance[0, 1:]
    return rows


@pytest.mark.parametrize("blocks", [1, 2, None])
def test_relevance_equals_a_loop_from_its_equations(vit: OpenClipBackbone, blocks: int | None):
    classes = class_embeddings(vit.heads(), PROMPTS)
    attentions, gradients = attention_by_hook(vit, PIXELS, classes)
    first = 0 if blocks is None else len(attentions) - blocks
    expected = scale_maps(relevance_by_loop(attentions[first:], gradients[first:])).unflatten(-1, (4, 4))
    maps = relevance_method(blocks).class_maps(vit, vit.heads(), PIXELS, PROMPTS)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


def test_rollout_equals_the_product_of_mixed_attention(vit: OpenClipBackbone):
    attentions, _ = attention_by_hook(vit, PIXELS, class_embeddings(vit.heads(), PROMPTS))
    maps = ROLLOUT.class_maps(vit, vit.heads(), PIXELS, PROMPTS)
    for image in range(2):
        flow = torch.eye(17)
        for attention in attentions:
            flow = (0.5 * torch.eye(17) + 0.5 * attention[image].mean(0)) @ flow
        torch.testing.assert_close(flow.sum(-1), torch.ones(17))
        expected = scale_maps(flow[0, 1:]).reshape(4, 4)
        for label in range(3):
            torch.testing.assert_close(maps[image, label], expected, atol=1e-5, rtol=0)


def test_similarity_is_each_tokens_cosine_with_the_class(vit: OpenClipBackbone):
    visual: Any = vit.model.visual
    visual.output_tokens = True
    try:
        _, tokens = visual(PIXELS)
    finally:
        visual.output_tokens = False
    projected = nn.functional.normalize(tokens @ visual.proj, dim=-1)
    scores = projected @ class_embeddings(vit.heads(), PROMPTS).mT
    expected = scale_maps(scores.mT).unflatten(-1, (4, 4))
    maps = SIMILARITY.class_maps(vit, vit.heads(), PIXELS, PROMPTS)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("vision", [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"ls_init_value": 0.3}])
def test_the_pass_that_shows_attention_gives_the_encoders_own_features(vision: dict[str, object]):
    backbone = backbone_of(VIT, **vision)
    seen = backbone.attend(PIXELS, keep=2, differentiable=True)
    torch.testing.assert_close(seen.features.detach(), backbone.image_features(PIXELS), atol=1e-5, rtol=1e-4)
    assert [attention.shape for attention in seen.attentions] == [(2, 4, 17, 17)] * 2
    torch.testing.assert_close(seen.reading.sum(-1), torch.ones(2))
    for attention in seen.attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 4, 17))


@pytest.mark.parametrize("name", list(MAP_METHODS))
def test_every_method_gives_a_stack_of_runs_the_maps_of_each_run_alone(name: str, vit: OpenClipBackbone):
    method = find_map_method(name)
    runs = [{key: v + 0.1 * drawn(*v.shape, seed=s) if v.ndim else v for key, v in vit.heads().items()} for s in (5, 6)]
    stacked = {key: torch.stack([run[key] for run in runs]) for key in runs[0]}
    maps = method.class_maps(vit, stacked, PIXELS, PROMPTS)
    assert maps.shape == (2, 2, 3, 4, 4)
    assert maps.amin() >= 0
    assert maps.amax() <= 1
    for run, heads in enumerate(runs):
        alone = method.class_maps(vit, heads, PIXELS, PROMPTS)
        torch.testing.assert_close(maps[run], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(MAP_METHODS))
def test_every_method_explains_a_probe(name: str, vit: OpenClipBackbone):
    probes = {"probe.weight": drawn(2, 3, 32, seed=3), "probe.bias": torch.zeros(2, 3)}
    maps = find_map_method(name).class_maps(vit, probes, PIXELS, PROMPTS[:, :1])
    assert maps.shape == (2, 2, 3, 4, 4)


def test_relevance_of_a_probe_follows_its_own_logit(vit: OpenClipBackbone):
    probe = {"probe.weight": drawn(3, 32, seed=3), "probe.bias": torch.zeros(3)}
    seen = vit.attend(PIXELS, keep=1, differentiable=True)
    logits = class_logits(probe, seen.features, PROMPTS)
    (attention,) = seen.attentions
    gradients = torch.stack(
        [torch.autograd.grad(logits[:, c].sum(), attention, retain_graph=True)[0] for c in range(3)]
    )
    expected = scale_maps(relevance_by_loop([attention.detach()], [gradients])).unflatten(-1, (4, 4))
    maps = RELEVANCE.class_maps(vit, probe, PIXELS, PROMPTS)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


def test_the_table_begins_with_the_papers_method_and_its_maps_are_gradcams(vit: OpenClipBackbone):
    assert list(MAP_METHODS) == ["gradcam", "relevance", "rollout", "similarity"]
    expected = class_maps(vit, vit.heads(), PIXELS, PROMPTS)
    assert torch.equal(GRADCAM.class_maps(vit, vit.heads(), PIXELS, PROMPTS), expected)


@pytest.mark.parametrize("name", TRANSFORMER_ONLY)
def test_a_resnet_is_refused_in_a_sentence_that_says_what_to_use(name: str):
    with pytest.raises(ModelError, match=f"{name} reads the attention.*this image tower shows none.*--method gradcam"):
        find_map_method(name).check(backbone_of(RESNET))


def test_gradcam_takes_a_resnet():
    GRADCAM.check(backbone_of(RESNET))


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'rollout'"):
        find_map_method("rolout")


@pytest.mark.parametrize("name", list(MAP_METHODS))
def test_nothing_is_left_on_the_model(name: str, vit: OpenClipBackbone):
    maps = find_map_method(name).maps(
        vit, vit.heads(), find_map_method(name).see(vit, PIXELS), explained_classes(vit.heads(), PROMPTS)
    )
    assert not maps.requires_grad
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in vit.model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in vit.model.modules())
