from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from despur.backbones.heads import attention_pool, class_embeddings, class_logits
from despur.backbones.open_clip import OpenClipBackbone, load_open_clip
from despur.backbones.protocol import LayerOutput
from despur.explain import gradcam
from despur.explain.gradcam import class_maps, explained_classes, layer_maps
from despur.explain.maps import scale_maps, upsample_maps

TEXT = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
VISION = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 96, "head_width": 32},
    "vit": {"layers": 2, "width": 32, "head_width": 8, "patch_size": 16, "image_size": 64},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small run faster on one thread than threads can be woken."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_backbone(kind: str, trainable: str = "projection", **vision: object) -> OpenClipBackbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIP(embed_dim=24, vision_cfg={**VISION[kind], **vision}, text_cfg=TEXT, output_dict=False)
        for weight in model.parameters():
            if weight.ndim == 1:  # norms and biases away from the ones and zeros that they begin with
                nn.init.normal_(weight, mean=0.5, std=0.5)
    return OpenClipBackbone(model, lambda texts, context_length=None: torch.zeros(0), spec=kind, trainable=trainable)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_pixels(backbone: OpenClipBackbone, images: int) -> Tensor:
    return drawn(images, 3, backbone.framing.height, backbone.framing.width, seed=1)


def some_prompts(backbone: OpenClipBackbone, classes: int) -> Tensor:
    return drawn(4, classes, backbone.heads()["text.weight"].shape[-1], seed=2)


def perturbed(heads: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Heads as another run might have trained them."""
    return {
        name: value + 0.3 * value.std() * drawn(*value.shape, seed=seed) if value.ndim else value
        for name, value in heads.items()
    }


class PlainClassifier(nn.Module):
    """The library's own image encoder with 100 × cosine on top, as the reference package wants to see it."""

    def __init__(self, model: nn.Module, classes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.classes = nn.Parameter(classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return 100 * self.model.encode_image(pixels, normalize=True) @ self.classes.mT


class LayerGradCAM(GradCAM):
    """The package's Grad-CAM, its maps left at the layer's resolution."""

    grid: tuple[int, int]

    def get_target_width_height(self, input_tensor: Tensor) -> tuple[int, int]:
        return self.grid[1], self.grid[0]


def package_maps(backbone: OpenClipBackbone, pixels: Tensor, prompts: Tensor) -> Tensor:
    """[images, classes, height, width] from the ``grad-cam`` package, one call a class."""
    visual = backbone.model.visual
    grid = backbone.trunk(pixels[:1]).grid
    reshape: Callable[[Tensor], Tensor] | None = None
    if hasattr(visual, "layer4"):
        layer = visual.layer4
    else:
        layer = visual.transformer.resblocks[-1].ln_1
        reshape = lambda tokens: tokens[:, 1:].mT.unflatten(-1, grid)  # noqa: E731
    classifier = PlainClassifier(backbone.model, class_embeddings(backbone.heads(), prompts))
    with LayerGradCAM(classifier, [layer], reshape_transform=reshape) as package:
        package.grid = grid
        # The backbone's weights ask for no gradients; the package's hooks need some to flow.
        inputs = pixels.clone().requires_grad_()
        maps = [
            package(inputs, targets=[ClassifierOutputTarget(label)] * len(pixels)) for label in range(prompts.shape[1])
        ]
    return torch.from_numpy(np.stack(maps, axis=1))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize("classes", [3, 5])
def test_maps_equal_the_published_package(kind: str, classes: int):
    backbone = small_backbone(kind)
    pixels, prompts = some_pixels(backbone, 3), some_prompts(backbone, classes)
    maps = class_maps(backbone, backbone.heads(), pixels, prompts)
    judged = package_maps(backbone, pixels, prompts)
    assert judged.amax() > 0.9
    assert maps.shape == judged.shape
    torch.testing.assert_close(maps, judged, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["RN50", "ViT-B-32"])
def test_maps_of_full_size_models_equal_the_published_package(architecture: str):
    backbone = load_open_clip(architecture, random_weights=True)
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 3)
    maps = class_maps(backbone, backbone.heads(), pixels, prompts)
    torch.testing.assert_close(maps, package_maps(backbone, pixels, prompts), atol=1e-4, rtol=0)


def test_training_the_attention_pool_or_only_its_projection_explains_the_same_model_alike():
    projection, pool = small_backbone("resnet"), small_backbone("resnet", trainable="attention-pool")
    pixels, prompts = some_pixels(projection, 3), some_prompts(projection, 4)
    expected = class_maps(projection, projection.heads(), pixels, prompts)
    torch.testing.assert_close(class_maps(pool, pool.heads(), pixels, prompts), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "trainable"), [("resnet", "projection"), ("resnet", "attention-pool"), ("vit", "projection")]
)
def test_the_maps_of_stacked_runs_are_those_of_each_run_alone(kind: str, trainable: str):
    backbone = small_backbone(kind, trainable)
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 3)
    runs = [perturbed(backbone.heads(), seed) for seed in range(4)]
    stacked = {name: torch.stack([run[name] for run in runs]).unflatten(0, (2, 2)) for name in runs[0]}
    maps = class_maps(backbone, stacked, pixels, prompts)
    assert maps.shape[:4] == (2, 2, 2, 3)
    for run, heads in enumerate(runs):
        alone = class_maps(backbone, heads, pixels, prompts)
        torch.testing.assert_close(maps[run // 2, run % 2], alone, atol=1e-4, rtol=0)  # batched sums round otherwise


def maps_of(backbone: OpenClipBackbone, heads: dict[str, Tensor], output: LayerOutput, prompts: Tensor) -> Tensor:
    return layer_maps(backbone, heads, output, explained_classes(heads, prompts))


def maps_by_loop(
    backbone: OpenClipBackbone, heads: dict[str, Tensor], pixels: Tensor, prompts: Tensor, temperature: float
) -> Tensor:
    """[images, classes, height, width]: one ordinary backward pass a class, and the channels weighed one by one."""
    output = backbone.trunk(pixels)
    leaf = output.activations.clone().requires_grad_()
    features = backbone.finish(replace(output, activations=leaf))
    logits = class_logits({**heads, "logit_scale": torch.tensor(1 / temperature).log()}, features, prompts)
    maps: list[Tensor] = []
    for label in range(logits.shape[-1]):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)
        weights = output.spatial(gradient).mean((-2, -1))
        channels = output.spatial(output.activations).unbind(-3)
        weighed = sum(weight[:, None, None] * channel for weight, channel in zip(weights.T, channels, strict=True))
        maps.append(scale_maps(weighed.relu().flatten(-2)).unflatten(-1, output.grid))
    return torch.stack(maps, dim=1)


@pytest.mark.parametrize(
    ("kind", "trainable"), [("resnet", "projection"), ("resnet", "attention-pool"), ("vit", "projection")]
)
def test_maps_weigh_channels_by_the_spatial_mean_of_the_gradient(kind: str, trainable: str):
    backbone = small_backbone(kind, trainable)
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 3)
    maps = class_maps(backbone, backbone.heads(), pixels, prompts)
    expected = maps_by_loop(backbone, backbone.heads(), pixels, prompts, temperature=0.01)
    assert expected.amax() > 0.9
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_probe_is_explained_by_its_own_logit(kind: str):
    backbone = small_backbone(kind)
    pixels, unread = some_pixels(backbone, 2), some_prompts(backbone, 1)
    width = backbone.image_features(pixels).shape[-1]
    probes = {"probe.weight": drawn(2, 3, width, seed=5), "probe.bias": torch.zeros(2, 3)}
    maps = class_maps(backbone, probes, pixels, unread)
    assert maps.shape[:3] == (2, 2, 3)
    for run in range(2):
        alone = {name: value[run] for name, value in probes.items()}
        expected = maps_by_loop(backbone, alone, pixels, unread, temperature=0.01)
        torch.testing.assert_close(maps[run], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "trainable", "vision"),
    [
        ("resnet", "projection", {}),
        ("resnet", "attention-pool", {}),
        ("vit", "projection", {}),
        ("vit", "projection", {"pool_type": "avg"}),
        ("vit", "projection", {"final_ln_after_pool": True}),
        ("vit", "projection", {"ls_init_value": 0.3}),
    ],
)
def test_a_shift_given_apart_is_the_shift_added_to_every_position(kind: str, trainable: str, vision: dict[str, object]):
    backbone = small_backbone(kind, trainable, **vision)
    output = backbone.trunk(some_pixels(backbone, 3))
    channels = output.spatial(output.activations).shape[-3]
    shift = (0.3 * drawn(3, channels, seed=4)).requires_grad_()
    apart, added = backbone.finish(output, shift), backbone.finish(output.shifted(shift))
    torch.testing.assert_close(apart, added, atol=1e-5, rtol=1e-4)
    direction = drawn(*apart.shape, seed=5)
    (gradient,) = torch.autograd.grad((apart * direction).sum(), shift)
    (expected,) = torch.autograd.grad((added * direction).sum(), shift)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_a_pool_given_a_shift_apart_pools_the_shifted_map():
    heads = small_backbone("resnet", "attention-pool").heads()
    maps, shift = drawn(2, heads["pool.q.weight"].shape[-1], 3, 3), drawn(2, heads["pool.q.weight"].shape[-1], seed=6)
    expected = attention_pool(heads, maps + shift[..., None, None])
    torch.testing.assert_close(attention_pool(heads, maps, shift), expected, atol=1e-5, rtol=1e-4)


def test_chunked_gradients_equal_those_taken_at_once(monkeypatch: pytest.MonkeyPatch):
    backbone = small_backbone("vit")
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 5)
    at_once = class_maps(backbone, backbone.heads(), pixels, prompts)
    monkeypatch.setattr(gradcam, "BATCH_ELEMENTS", 1)
    chunked = class_maps(backbone, backbone.heads(), pixels, prompts)
    torch.testing.assert_close(chunked, at_once, atol=1e-5, rtol=0)


def test_maps_do_not_depend_on_the_temperature_a_run_has_learned():
    backbone = small_backbone("vit")
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 2)
    cooler = {**backbone.heads(), "logit_scale": torch.tensor(1.0)}
    expected = class_maps(backbone, backbone.heads(), pixels, prompts)
    assert torch.equal(class_maps(backbone, cooler, pixels, prompts), expected)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_nothing_is_left_on_the_model_and_no_graph_hangs_on_the_maps(kind: str):
    backbone = small_backbone(kind)
    before = {name: (value._version, value.requires_grad) for name, value in backbone.model.state_dict().items()}
    maps = class_maps(backbone, backbone.heads(), some_pixels(backbone, 2), some_prompts(backbone, 2))
    assert not maps.requires_grad
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in backbone.model.modules())
    assert before == {
        name: (value._version, value.requires_grad) for name, value in backbone.model.state_dict().items()
    }


def test_maps_are_the_same_inside_no_grad():
    backbone = small_backbone("resnet")
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 2)
    expected = class_maps(backbone, backbone.heads(), pixels, prompts)
    with torch.no_grad():
        assert torch.equal(class_maps(backbone, backbone.heads(), pixels, prompts), expected)


def test_one_trunk_pass_serves_several_models():
    backbone = small_backbone("vit")
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 2)
    output = backbone.trunk(pixels)
    other = perturbed(backbone.heads(), 7)
    for heads in (backbone.heads(), other):
        expected = class_maps(backbone, heads, pixels, prompts)
        assert torch.equal(maps_of(backbone, heads, output, prompts), expected)
    assert not torch.allclose(
        maps_of(backbone, backbone.heads(), output, prompts), maps_of(backbone, other, output, prompts)
    )


def in_bfloat16(backbone: OpenClipBackbone, output: LayerOutput) -> LayerOutput:
    """The model's tower turned to bfloat16, and a layer output as it would then be stored."""
    backbone.model.visual.to(torch.bfloat16)
    residual = None if output.residual is None else output.residual.bfloat16()
    return replace(output, activations=output.activations.bfloat16(), residual=residual)


def test_bfloat16_maps_of_a_transformer_are_within_two_hundredths_of_those_of_float32():
    backbone = small_backbone("vit")
    pixels, prompts = some_pixels(backbone, 4), some_prompts(backbone, 2)
    expected = class_maps(backbone, backbone.heads(), pixels, prompts)
    maps = maps_of(backbone, backbone.heads(), in_bfloat16(backbone, backbone.trunk(pixels)), prompts)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_bfloat16_model_loses_nothing_but_what_storing_in_bfloat16_loses(kind: str):
    backbone = small_backbone(kind)
    pixels, prompts = some_pixels(backbone, 4), some_prompts(backbone, 2)
    stored = in_bfloat16(backbone, backbone.trunk(pixels))
    maps = maps_of(backbone, backbone.heads(), stored, prompts)
    backbone.model.visual.float()  # the weights keep their rounded values; all that is computed is in float32 now
    expected = maps_of(backbone, backbone.heads(), stored.in_float32(), prompts)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "worst"), [("RN50", None), ("ViT-B-32", 2e-2)])
def test_a_full_size_model_wholly_in_bfloat16_maps_as_in_float32(architecture: str, worst: float | None):
    """A ResNet's channels nearly cancel under random weights: storing its layer in bfloat16 alone moves single cells
    by 0.09, whatever is computed afterwards; its mean holds. Of a ViT's cells, processors that multiply bfloat16 in
    tiles move one in three hundred a little further than others do."""
    backbone = load_open_clip(architecture, random_weights=True)
    pixels, prompts = some_pixels(backbone, 2), some_prompts(backbone, 3)
    expected = class_maps(backbone, backbone.heads(), pixels, prompts)
    backbone.model.visual.to(torch.bfloat16)
    apart = (class_maps(backbone, backbone.heads(), pixels.bfloat16(), prompts) - expected).abs()
    assert apart.mean() < 1e-2
    if worst is not None:
        assert (apart < worst).float().mean() > 0.99
        assert apart.max() < 1.5 * worst


def test_upsampling_is_bilinear_between_pixel_centres():
    maps = torch.tensor([[0.0, 1.0]]).expand(2, 3, 1, 2)
    upsampled = upsample_maps(maps, (2, 4))
    assert upsampled.shape == (2, 3, 2, 4)
    torch.testing.assert_close(upsampled[1, 2], torch.tensor([[0.0, 0.25, 0.75, 1.0]] * 2))
