"""open_clip's models behind the backbone protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import nn

from despur.backbones.heads import project_images, project_texts
from despur.backbones.open_clip import OpenClipBackbone, load_open_clip
from despur.backbones.protocol import Backbone, LayerOutput
from despur.backbones.registry import choose_weights, tags_of
from despur.errors import ModelError, SettingsError

Build = Callable[..., OpenClipBackbone]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("resnet", {}),
    ("resnet", {"trainable": "attention-pool"}),
    ("vit", {}),
    ("vit", {"quick_gelu": True}),
    ("vit", {"vision": {"pool_type": "avg"}}),
    ("vit", {"vision": {"final_ln_after_pool": True}}),
    ("vit", {"vision": {"ls_init_value": 0.1, "no_ln_pre": True, "layers": 1}}),
    ("vit", {"vision": {"attentional_pool": True, "attn_pooler_heads": 4}}),
    ("vit", {"vision": {"scale_attn": True, "qk_norm": True, "output_tokens": True}}),
    ("vit", {"custom_text": True, "text": {"proj_bias": True}}),
    ("vit", {"custom_text": True, "text": {"pool_type": "last", "no_causal_mask": True, "output_tokens": True}}),
    ("resnet", {"text": {"proj_type": "none"}, "init_logit_bias": -10.0, "nonscalar_logit_scale": True}),
]


def pixels(backbone: OpenClipBackbone, count: int = 3) -> torch.Tensor:
    return torch.randn(
        count, 3, backbone.framing.height, backbone.framing.width, generator=torch.Generator().manual_seed(1)
    )


def first(output: object) -> torch.Tensor:
    """open_clip returns (pooled, tokens) from towers with output_tokens."""
    return output[0] if isinstance(output, tuple) else output  # type: ignore[return-value]


@pytest.mark.parametrize(("tower", "options"), VARIANTS)
def test_features_through_the_heads_are_the_librarys_own_embeddings(
    small_backbone: Build, tower: str, options: dict[str, Any]
) -> None:
    backbone = small_backbone(tower, **options)
    heads, images = backbone.heads(), pixels(backbone)
    texts = backbone.tokenize(["a photo of a waterbird", "a bird!"])
    with torch.no_grad():
        own_images, own_texts = first(backbone.model.encode_image(images)), first(backbone.model.encode_text(texts))
    torch.testing.assert_close(project_images(heads, backbone.image_features(images)), own_images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(project_texts(heads, backbone.text_features(texts)), own_texts, atol=1e-5, rtol=1e-5)
    assert heads["logit_scale"].shape == ()
    assert ("logit_bias" in heads) == ("init_logit_bias" in options)


@pytest.mark.parametrize(("tower", "options"), VARIANTS)
def test_the_two_halves_of_the_encoder_make_the_whole(
    small_backbone: Build, tower: str, options: dict[str, Any]
) -> None:
    backbone = small_backbone(tower, **options)
    images = pixels(backbone)
    output = backbone.trunk(images)
    torch.testing.assert_close(backbone.finish(output), backbone.image_features(images), atol=1e-5, rtol=1e-5)
    grid = (2, 2) if tower == "resnet" else (4, 4)
    assert output.grid == grid
    assert output.spatial(output.activations).shape[-2:] == grid


def test_the_second_half_is_differentiable_and_the_first_keeps_no_graph(small_backbone: Build) -> None:
    for tower in ("resnet", "vit"):
        backbone = small_backbone(tower)
        output = backbone.trunk(pixels(backbone))
        assert not output.activations.requires_grad
        leaf = output.activations.clone().requires_grad_()
        backbone.finish(LayerOutput(leaf, output.residual, output.grid, output.prefix_tokens)).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0
        assert all(value.grad is None for value in backbone.model.parameters())


def test_a_token_of_the_grid_lies_where_its_patch_lies(small_backbone: Build) -> None:
    backbone = small_backbone("vit", vision={"layers": 1, "no_ln_pre": True})
    dark = torch.zeros(1, 3, 32, 32)
    marked = dark.clone()
    marked[..., 8:16, 24:32] = 5.0  # row 1, column 3 of the 4 x 4 patches
    before, after = backbone.trunk(dark), backbone.trunk(marked)
    changed = (after.spatial(after.activations) - before.spatial(before.activations)).abs().sum(1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[1, 3]]


def test_heads_are_copies(small_backbone: Build) -> None:
    backbone = small_backbone("vit")
    backbone.heads()["text.weight"].zero_()
    assert backbone.model.text_projection.abs().sum() > 0
    assert backbone.heads()["text.weight"].abs().sum() > 0


def test_the_model_is_frozen_and_not_copied(small_backbone: Build) -> None:
    backbone = small_backbone("resnet")
    assert isinstance(backbone, Backbone)
    assert not backbone.model.training
    assert not any(value.requires_grad for value in backbone.model.parameters())
    again = OpenClipBackbone(backbone.model, backbone.tokenizer, spec="again")
    assert again.model is backbone.model


def test_equal_models_have_equal_fingerprints(small_backbone: Build) -> None:
    assert small_backbone("vit").fingerprint() == small_backbone("vit").fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"text": {"no_causal_mask": True}},
        {"seed": 1},
        {"quick_gelu": True},
        {"vision": {"head_width": 16}},
        {"vision": {"pool_type": "avg"}},
    ],
)
def test_whatever_changes_the_features_changes_the_fingerprint(small_backbone: Build, change: dict[str, Any]) -> None:
    assert small_backbone("vit", **change).fingerprint() != small_backbone("vit").fingerprint()


def test_one_weight_the_trained_part_the_preprocessing_and_the_tokenizer_are_in_the_fingerprint(
    small_backbone: Build,
) -> None:
    backbone = small_backbone("resnet")
    model, tokenizer, before = backbone.model, backbone.tokenizer, backbone.fingerprint()
    variants = [
        OpenClipBackbone(model, tokenizer, spec="", trainable="attention-pool"),
        OpenClipBackbone(model, tokenizer, spec="", preprocess=PreprocessCfg(size=64, resize_mode="squash")),
        OpenClipBackbone(model, SimpleTokenizer(context_length=24, clean="canonicalize"), spec=""),
    ]
    found = {before, *(variant.fingerprint() for variant in variants)}
    with torch.no_grad():
        model.visual.layer1[0].conv1.weight[0, 0] += 1e-3
    found.add(backbone.fingerprint())
    assert len(found) == 5


def test_a_text_that_does_not_fit_is_named_with_its_length(small_backbone: Build) -> None:
    backbone = small_backbone("vit")
    fits = "bird " * 22
    assert backbone.tokenize([fits.strip()]).shape == (1, 24)
    with pytest.raises(ModelError, match=r"'a photo bird .*\[\.\.\.\]' has 26 tokens, the model reads 24"):
        backbone.tokenize(["short", "a photo " + fits])
    with pytest.raises(ModelError, match="has 502 tokens"):
        backbone.tokenize(["bird " * 500])


def test_images_are_preprocessed_by_the_librarys_evaluation_transform(small_backbone: Build) -> None:
    backbone = small_backbone("vit")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    expected = image_transform_v2(PreprocessCfg(size=32), is_train=False)(image)
    assert torch.equal(backbone.preprocess(image), expected)
    assert (backbone.framing.height, backbone.framing.width, backbone.framing.mode) == (32, 32, "shortest")


def test_a_tower_or_a_trained_part_that_is_not_known_is_refused(small_backbone: Build) -> None:
    with pytest.raises(ModelError, match="Linear is not a pair of encoders"):
        OpenClipBackbone(nn.Linear(2, 2), SimpleTokenizer(), spec="x")
    with pytest.raises(ModelError, match=r"image tower \(VisionTransformer\)"):
        small_backbone("vit", vision={"pool_type": "none"})
    with pytest.raises(SettingsError, match="did you mean 'projection'"):
        small_backbone("vit", trainable="projections")
    with pytest.raises(SettingsError, match="no attention pool"):
        small_backbone("vit", trainable="attention-pool")


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        ("RN5", r"no architecture 'RN5'; did you mean 'RN50'\?"),
        ("clip!", "such as RN50, ViT-B-32"),
        (
            "RN50/opena",
            r"no tag 'opena'; did you mean 'openai'\? it has openai, yfcc15m, cc12m, or give a weights file",
        ),
        ("RN50/imagenet", "no tag 'imagenet'; choose openai, yfcc15m, cc12m, or give a weights file"),
        ("RN50", r"without weights; name a tag, as in open_clip:RN50/openai \(it has openai, yfcc15m, cc12m\)"),
        ("ViT-B-32", r"\(it has openai, laion2b_s34b_b79k, .* more, which despur doctor --tags ViT-B-32 lists\), or"),
        ("vit_medium_patch16_gap_256", "without weights; name a weights file, or pass --random-weights"),
        ("RN50/missing.safetensors", "missing.safetensors: there is no such weights file"),
        ("coca_ViT-B-32", "a tower of CoCa"),
    ],
)
def test_a_spec_that_cannot_be_met_is_refused_with_what_to_do(tail: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_open_clip(tail, random_weights=tail.startswith("coca"))


def test_no_sentence_about_weights_is_long_whatever_the_architecture() -> None:
    for architecture in open_clip.list_models():
        with pytest.raises(ModelError) as told:
            choose_weights(architecture)
        assert len(str(told.value)) < 320


def test_all_tags_of_an_architecture_are_listed_the_commonest_first() -> None:
    tags = tags_of("ViT-B-32")
    assert sorted(tags) == sorted(open_clip.list_pretrained_tags_by_model("ViT-B-32"))
    assert tags[0] == "openai"
    assert "commonpool" not in "".join(tags[:4])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "trainable"),
    [
        ("RN50", "projection"),
        ("RN50", "attention-pool"),
        ("ViT-B-32", "projection"),
        ("ViT-L-14-336", "projection"),
    ],
)
def test_full_size_features_through_the_heads_are_the_librarys_own(architecture: str, trainable: str) -> None:
    state = torch.random.get_rng_state()
    backbone = load_open_clip(architecture, random_weights=True, trainable=trainable, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state), "random weights leave the global generator alone"
    images, texts = pixels(backbone, 2), backbone.tokenize(["a photo of a waterbird", "a photo of a landbird"])
    heads = backbone.heads()
    with torch.no_grad():
        own_images, own_texts = backbone.model.encode_image(images), backbone.model.encode_text(texts)
    torch.testing.assert_close(project_images(heads, backbone.image_features(images)), own_images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(project_texts(heads, backbone.text_features(texts)), own_texts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.finish(backbone.trunk(images)), backbone.image_features(images))
    again = load_open_clip(architecture, random_weights=True, trainable=trainable, seed=3)
    other = load_open_clip(architecture, random_weights=True, trainable=trainable, seed=4)
    assert backbone.fingerprint() == again.fingerprint() != other.fingerprint()
