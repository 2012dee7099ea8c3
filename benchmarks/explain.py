"""Grad-CAM of every class from one trunk pass, against one forward pass and against the ``grad-cam`` package.

Full-size RN50 and ViT-B-32 with random weights (which cost what trained ones do), batches of 8, float32, 2, 10 and 100
classes. In turns, in one process:

* ours: maps of all classes at the layer's resolution, for one model's heads (``forwards_cN``: over one forward);
* one forward pass of the image encoder (``image_features``);
* the package: one call a class, its maps at the layer's resolution too (``package_over_ours_cN``; not for 100 classes,
  which would be 100 forward and backward passes).

Ratios without an architecture's name are RN50's. Memory: fresh processes that measure AIoU over 64 and over 1,000
images in the way that ``despur explain`` does.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from despur.backbones.heads import class_embeddings
from despur.backbones.open_clip import OpenClipBackbone, load_open_clip
from despur.birdland.models import as_backbone, new_small
from despur.data.examples import Attribute, make_dataset
from despur.explain.gradcam import class_maps
from despur.explain.measure import measure_explanations
from harness import arguments, in_turns, peak_gb, tell

BATCH = 8
CLASSES = (2, 10, 100)
PACKAGE_CLASSES = (2, 10)


class Classifier(nn.Module):
    """The library's own image encoder with 100 × cosine on top, as the package wants to see it."""

    def __init__(self, model: nn.Module, classes: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.classes = nn.Parameter(classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return 100 * self.model.encode_image(pixels, normalize=True) @ self.classes.mT


class LayerGradCAM(GradCAM):
    """The package without its last step, the enlarging of maps on the CPU, which ours leaves out as well."""

    grid: tuple[int, int]

    def get_target_width_height(self, input_tensor: torch.Tensor) -> tuple[int, int]:
        return self.grid[1], self.grid[0]


def package_maps(backbone: OpenClipBackbone, pixels: torch.Tensor, prompts: torch.Tensor) -> np.ndarray:
    visual: Any = backbone.model.visual
    side = 7
    if hasattr(visual, "layer4"):
        layer, reshape = visual.layer4, None
    else:
        layer, reshape = visual.transformer.resblocks[-1].ln_1, partial(as_grid, side=side)
    classifier = Classifier(backbone.model, class_embeddings(backbone.heads(), prompts))
    with LayerGradCAM(classifier, [layer], reshape_transform=reshape) as package:
        package.grid = (side, side)
        return np.stack(
            [
                package(pixels.clone().requires_grad_(), targets=[ClassifierOutputTarget(label)] * len(pixels))
                for label in range(prompts.shape[1])
            ],
            axis=1,
        )


def as_grid(tokens: torch.Tensor, side: int) -> torch.Tensor:
    return tokens[:, 1:].mT.unflatten(-1, (side, side))


def compare(architecture: str, quick: bool) -> tuple[dict[str, float], dict[str, float], float]:
    """Ratios, seconds of each side, and the largest difference of our maps from the package's."""
    backbone = load_open_clip(architecture, random_weights=True)
    heads = backbone.heads()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 3, 224, 224, generator=generator)
    prompts = torch.randn(4, max(CLASSES), heads["text.weight"].shape[-1], generator=generator)
    theirs = torch.from_numpy(package_maps(backbone, pixels, prompts[:, :2]))
    apart = float((class_maps(backbone, heads, pixels, prompts[:, :2]) - theirs).abs().max())
    ours = {count: partial(class_maps, backbone, heads, pixels, prompts[:, :count]) for count in CLASSES}
    package = {count: partial(package_maps, backbone, pixels, prompts[:, :count]) for count in PACKAGE_CLASSES}
    turns = partial(in_turns, runs=1 if quick else 5, warm_up=not quick)
    forward = partial(backbone.image_features, pixels)
    found = turns({"forward": forward, **{f"ours, {count}": side for count, side in ours.items()}})
    ratios = {f"forwards_c{count}": found[f"ours, {count}"] / found["forward"] for count in CLASSES}
    for count in PACKAGE_CLASSES[: 1 if quick else None]:
        # Turns of their own: the package's seconds would stretch the rounds in which ours is held against a forward.
        both = turns({f"ours, {count}, beside the package": ours[count], f"package, {count}": package[count]})
        ratios[f"package_over_ours_c{count}"] = both[f"package, {count}"] / both[f"ours, {count}, beside the package"]
        found |= both
    return ratios, found, apart


def measure_many(images: int, folder: str) -> None:
    """AIoU of a small model and eight runs over that many images, which are one file read again and again."""
    backbone = as_backbone(new_small("resnet", seed=0))
    heads = backbone.heads()
    stack = {name: torch.stack([head] * 8) for name, head in heads.items()}
    dataset = make_dataset(
        "noise",
        Path(folder),
        ["first", "second"],
        [Attribute("water", "on water")],
        {
            "id": [str(i) for i in range(images)],
            "image": ["noise.png"] * images,
            "label": [i % 2 for i in range(images)],
            "split": ["test"] * images,
            "box": [[10.0, 10.0, 100.0, 90.0]] * images,
            "water": [False] * images,
        },
    )
    prompts = torch.randn(4, 2, heads["text.weight"].shape[-1], generator=torch.Generator().manual_seed(0))
    measure_explanations(backbone, [heads, stack], dataset, prompts)


def main() -> None:
    options = arguments("Grad-CAM maps of all classes, against the grad-cam package and one forward pass")
    ratios: dict[str, float] = {}
    seconds: dict[str, float] = {}
    differences: dict[str, float] = {}
    for architecture, prefix in (("RN50", ""), ("ViT-B-32", "vit_b_32_")):
        print(architecture, file=sys.stderr)
        found, sides, differences[architecture] = compare(architecture, options.quick)
        ratios |= {f"{prefix}{name}": value for name, value in found.items()}
        seconds |= {f"{architecture}, {side}": value for side, value in sides.items()}
    few, many = (16, 64) if options.quick else (64, 1_000)
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(Path(folder) / "noise.png")
        peaks = {f"{count} images": peak_gb(partial(measure_many, count, folder)) for count in (few, many)}
    tell("explain", ratios, peaks, options, seconds=seconds, largest_difference_from_package=differences)


if __name__ == "__main__":
    main()
