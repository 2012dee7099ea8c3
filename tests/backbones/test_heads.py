"""The trained heads as plain tensors: attention pooling, class scores, and stacks of runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from despur.backbones.heads import (
    attention_pool,
    class_embeddings,
    class_logits,
    embed_images,
    inverse_temperature,
    project_images,
    project_texts,
)
from despur.backbones.open_clip import OpenClipBackbone

Build = Callable[..., OpenClipBackbone]


def a_head_set(seed: int, *, pool: bool) -> dict[str, torch.Tensor]:
    """Heads of 8 image channels (a 2 x 3 map where pooled), 5 text channels, 4 joint dimensions."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    if pool:
        image = {
            f"pool.{name}.{kind}": normal(8, 8) if kind == "weight" else normal(8)
            for name in "qkv"
            for kind in ("weight", "bias")
        }
        image |= {"pool.c.weight": normal(4, 8), "pool.c.bias": normal(4), "pool.positions": normal(7, 8)}
        image["pool.heads"] = torch.tensor(2)
    else:
        image = {"image.weight": normal(4, 8), "image.bias": normal(4)}
    return {
        **image,
        "text.weight": normal(4, 5),
        "text.bias": normal(4),
        "logit_scale": normal(),
        "logit_bias": normal(),
    }


def test_attention_pooling_is_softmax_attention_of_the_mean_over_mean_and_positions() -> None:
    heads = {
        name: value.double() if value.is_floating_point() else value for name, value in a_head_set(0, pool=True).items()
    }
    maps = torch.randn(2, 8, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for image, pooled in zip(maps, attention_pool(heads, maps), strict=True):
        positions = [image[:, row, column] for row in range(2) for column in range(3)]
        tokens = [
            token + place
            for token, place in zip([torch.stack(positions).mean(0), *positions], heads["pool.positions"], strict=True)
        ]
        query, *_ = (heads["pool.q.weight"] @ token + heads["pool.q.bias"] for token in tokens)
        keys = [heads["pool.k.weight"] @ token + heads["pool.k.bias"] for token in tokens]
        values = [heads["pool.v.weight"] @ token + heads["pool.v.bias"] for token in tokens]
        read = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = torch.stack([query[part] @ key[part] for key in keys]) / 2.0  # the root of 4 channels a head
            read.append(sum(share * value[part] for share, value in zip(scores.softmax(0), values, strict=True)))
        expected = heads["pool.c.weight"] @ torch.cat(read) + heads["pool.c.bias"]
        torch.testing.assert_close(pooled, expected)


def test_class_scores_are_scaled_cosines_with_the_renormalised_mean_prompt() -> None:
    heads = a_head_set(2, pool=False)
    features, prompts = torch.randn(6, 8), torch.randn(3, 2, 5)  # 3 templates, 2 classes
    logits = class_logits(heads, features, prompts)
    for image in range(6):
        embedded = F.normalize(heads["image.weight"] @ features[image] + heads["image.bias"], dim=0)
        for label in range(2):
            units = [
                F.normalize(heads["text.weight"] @ prompts[t, label] + heads["text.bias"], dim=0) for t in range(3)
            ]
            mean = F.normalize(torch.stack(units).mean(0), dim=0)
            expected = heads["logit_scale"].exp() * (embedded @ mean) + heads["logit_bias"]
            assert logits[image, label].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_probe_replaces_the_text_side() -> None:
    heads = {"probe.weight": torch.eye(2, 8), "probe.bias": torch.tensor([0.0, 1.0])}
    features = torch.arange(8.0)[None]
    assert class_logits(heads, features, torch.empty(1, 2, 5)).tolist() == [[0.0, 2.0]]


def test_the_inverse_temperature_never_passes_one_hundred() -> None:
    assert inverse_temperature({"logit_scale": torch.tensor(9.0)}).item() == pytest.approx(100.0)
    assert inverse_temperature({"logit_scale": torch.tensor(0.0)}).item() == 1.0


@pytest.mark.parametrize("pool", [False, True])
def test_a_stack_of_runs_equals_each_run_alone(pool: bool) -> None:
    runs = [a_head_set(seed, pool=pool) for seed in range(3)]
    stacked = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    features, prompts = torch.randn(6, 8, *((2, 3) if pool else ())), torch.randn(3, 2, 5)
    together = class_logits(stacked, features, prompts)
    assert together.shape == (3, 6, 2)
    for run, scores in zip(runs, together, strict=True):
        torch.testing.assert_close(scores, class_logits(run, features, prompts))
    torch.testing.assert_close(project_texts(stacked, prompts[0])[1], project_texts(runs[1], prompts[0]))
    torch.testing.assert_close(project_images(stacked, features)[2], project_images(runs[2], features))


def test_zero_shot_scores_are_what_the_library_gives(small_backbone: Build) -> None:
    for tower in ("resnet", "vit"):
        backbone = small_backbone(tower)
        images, texts = torch.randn(4, 3, backbone.framing.height, backbone.framing.width), ["a waterbird", "a boat"]
        tokens = backbone.tokenize(texts)
        expected, _ = backbone.model.get_logits(images, tokens)
        scores = class_logits(backbone.heads(), backbone.image_features(images), backbone.text_features(tokens)[None])
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_embeddings_are_unit_vectors() -> None:
    heads = a_head_set(4, pool=False)
    assert embed_images(heads, torch.randn(5, 8)).norm(dim=-1).tolist() == pytest.approx([1.0] * 5)
    assert class_embeddings(heads, torch.randn(3, 2, 5)).norm(dim=-1).tolist() == pytest.approx([1.0] * 2)
