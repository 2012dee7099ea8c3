from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from despur.backbones.geometry import Framing
from despur.backbones.heads import Heads
from despur.backbones.protocol import LayerOutput
from despur.data.examples import Attribute, Dataset, make_dataset
from despur.data.images import UnreadableImage
from despur.errors import ModelError
from despur.explain.gradcam import class_maps
from despur.explain.maps import upsample_maps
from despur.explain.measure import (
    ELSEWHERE,
    ON_OBJECT,
    explanation_report,
    measure_explanations,
)
from despur.explain.places import Places
from despur.explain.rollout import ROLLOUT
from despur.metrics import adjusted_iou, soft_iou

SIDE, CELL = 16, 4


@dataclass
class ColourBackbone:
    """Sees the mean colour of every cell of a 4 x 4 grid; its features are their mean: class maps can be foreseen."""

    spec: str = "colours"
    framing: Framing = Framing(SIDE, SIDE)  # noqa: RUF009 (frozen)
    context_length: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    passes: int = 0

    def fingerprint(self) -> str:
        return self.spec

    def heads(self) -> dict[str, Tensor]:
        return {"image.weight": torch.eye(3), "text.weight": torch.eye(3), "logit_scale": torch.tensor(0.0)}

    def preprocess(self, image: Image.Image) -> Tensor:
        return to_tensor(self.framing.image(image))

    def image_features(self, pixels: Tensor) -> Tensor:
        return self.finish(self.trunk(pixels))

    def tokenize(self, texts: list[str]) -> Tensor:
        raise NotImplementedError

    def text_features(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def trunk(self, pixels: Tensor) -> LayerOutput:
        self.passes += 1
        return LayerOutput(torch.nn.functional.avg_pool2d(pixels, CELL), residual=None, grid=(4, 4))

    def finish(self, output: LayerOutput, shift: Tensor | None = None) -> Tensor:
        return (output if shift is None else output.shifted(shift)).activations.mean((-2, -1))


def aiou_of(*arguments: Any, **choices: Any) -> np.ndarray:
    return measure_explanations(*arguments, **choices)["aiou"]


COLOURS = torch.eye(3)[None]
"""Prompts of three classes: one template, and red, green and blue as text features."""

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)


def write(folder: Path, name: str, patches: dict[tuple[int, int, int, int], int], size: tuple[int, int]) -> str:
    """A black PNG of ``size`` (width, height) with boxes (x0, y0, x1, y1) in a class's colour."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for (x0, y0, x1, y1), label in patches.items():
        pixels[y0:y1, x0:x1] = PALETTE[label]
    Image.fromarray(pixels).save(folder / name)
    return name


def dataset_of(folder: Path, rows: list[dict[str, object]]) -> Dataset:
    columns = {name: [row.get(name) for row in rows] for name in ("image", "label", "box", "mask")}
    columns["id"] = [str(i) for i in range(len(rows))]
    columns["split"] = ["test"] * len(rows)
    columns["water"] = [False] * len(rows)
    return make_dataset("here", folder, ["red", "green", "blue"], [Attribute("water", "on water")], columns)


@pytest.fixture
def patches(tmp_path: Path) -> Dataset:
    """Each picture holds its class's patch, and a patch of the next class elsewhere."""
    rows: list[dict[str, object]] = []
    for label in range(3):
        boxes = {(0, 0, 8, 8): label, (8, 8, 16, 12): (label + 1) % 3}
        name = write(tmp_path, f"{label}.png", boxes, (SIDE, SIDE))
        rows.append({"image": name, "label": label, "box": [0, 0, 8, 8]})
    return dataset_of(tmp_path, rows)


def random_runs(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weight = torch.eye(3) + 0.5 * torch.randn(count, 3, 3, generator=generator)
    return {"image.weight": weight, "text.weight": torch.eye(3), "logit_scale": torch.zeros(count)}


def test_a_model_that_looks_at_its_object_scores_high_and_one_that_looks_beside_it_zero(patches: Dataset):
    backbone = ColourBackbone()
    # A model that has mixed up its colours takes the next class's patch for its own.
    confused = {**backbone.heads(), "image.weight": torch.eye(3).roll(1, dims=1)}
    good, bad = aiou_of(backbone, [backbone.heads(), confused], patches, COLOURS)
    assert (good > 0.9).all()
    assert (bad < 0.2).all()


def test_measuring_equals_upsampled_maps_and_the_equations_image_by_image(patches: Dataset):
    backbone = ColourBackbone()
    heads = random_runs(5)
    measured = aiou_of(backbone, [heads], patches, COLOURS, batch_size=2)
    assert measured.shape == (5, 3)
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, :8, :8] = True
    for image, path in enumerate(patches.image_paths()):
        pixels = backbone.preprocess(Image.open(path).convert("RGB"))[None]
        maps = upsample_maps(class_maps(backbone, heads, pixels, COLOURS), (SIDE, SIDE))
        expected = adjusted_iou(soft_iou(maps, mask), torch.tensor([image]))
        np.testing.assert_allclose(measured[:, image], expected[:, 0], atol=1e-5)


def test_all_models_share_one_trunk_pass_a_batch_and_keep_their_order(patches: Dataset):
    backbone = ColourBackbone()
    probe: Heads = {"probe.weight": torch.eye(3), "probe.bias": torch.zeros(3)}
    models = [random_runs(2), probe, backbone.heads()]
    together = aiou_of(backbone, models, patches, COLOURS, batch_size=2)
    assert backbone.passes == 2
    alone = [aiou_of(backbone, [model], patches, COLOURS) for model in models]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


def test_an_image_without_box_and_mask_is_nan_and_is_not_even_read(tmp_path: Path):
    name = write(tmp_path, "red.png", {(0, 0, 8, 8): 0}, (SIDE, SIDE))
    dataset = dataset_of(
        tmp_path, [{"image": "missing.png", "label": 0}, {"image": name, "label": 0, "box": [0, 0, 8, 8]}]
    )
    measured = aiou_of(ColourBackbone(), [random_runs(2)], dataset, COLOURS)
    assert np.isnan(measured).tolist() == [[True, False], [True, False]]


def test_a_dataset_without_any_ground_truth_is_all_nan(tmp_path: Path):
    dataset = dataset_of(tmp_path, [{"image": "missing.png", "label": 0}])
    measured = aiou_of(ColourBackbone(), [random_runs(2), random_runs(3)], dataset, COLOURS)
    assert measured.shape == (5, 1)
    assert np.isnan(measured).all()


def test_an_unreadable_image_is_named(tmp_path: Path):
    dataset = dataset_of(tmp_path, [{"image": "missing.png", "label": 0, "box": [0, 0, 1, 1]}])
    with pytest.raises(UnreadableImage, match=r"missing\.png"):
        aiou_of(ColourBackbone(), [random_runs(1)], dataset, COLOURS)


def test_the_mask_is_preferred_over_the_box(tmp_path: Path):
    name = write(tmp_path, "red.png", {(0, 0, 8, 8): 0, (8, 0, 16, 4): 1}, (SIDE, SIDE))
    Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), ((0, 8), (0, 8)))).save(tmp_path / "mask.png")
    wrong_box = [12, 12, 16, 16]
    row: dict[str, object] = {"image": name, "label": 0, "box": wrong_box}
    dataset = dataset_of(tmp_path, [row, {**row, "mask": "mask.png"}])
    backbone = ColourBackbone()
    by_box, by_mask = aiou_of(backbone, [backbone.heads()], dataset, COLOURS)[0]
    assert by_box == 0.0
    assert by_mask > 0.5


def test_an_exif_rotated_photograph_is_explained_upright(tmp_path: Path):
    upright = write(tmp_path, "upright.png", {(0, 0, 8, 4): 0, (0, 8, 4, 16): 1}, (SIDE, SIDE))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown after a quarter turn clockwise
    Image.open(tmp_path / upright).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    rows: list[dict[str, object]] = [
        {"image": name, "label": 0, "box": [0, 0, 8, 4]} for name in (upright, "turned.png")
    ]
    backbone = ColourBackbone()
    straight, turned = aiou_of(backbone, [backbone.heads()], dataset_of(tmp_path, rows), COLOURS)[0]
    assert straight > 0.5
    assert turned == straight


def test_progress_counts_the_images_that_are_explained(patches: Dataset):
    seen: list[tuple[int, str, int]] = []

    def noting(
        steps: Iterable[list[int]], *, total: int, label: str, unit: str = "steps", each: int = 1
    ) -> Iterator[list[int]]:
        seen.append((total, unit, each))
        yield from steps

    aiou_of(ColourBackbone(), [random_runs(1)], patches, COLOURS, batch_size=2, progress=noting)
    assert seen == [(3, "images", 2)]


def test_the_report_takes_the_group_with_the_lowest_accuracy_and_skips_what_is_not_known():
    aiou = np.array([0.2, 0.4, np.nan, 0.9])
    report = explanation_report(aiou, np.array([0, 0, 1, 3]), worst_group=3)
    assert report is not None
    assert report.to_json() == {"average": pytest.approx(0.5), "worst_group": pytest.approx(0.9)}


def test_a_worst_group_without_ground_truth_is_none_and_no_ground_truth_at_all_no_report():
    report = explanation_report(np.array([0.2, np.nan]), np.array([0, 1]), worst_group=1)
    assert report is not None
    assert report.to_json() == {"average": pytest.approx(0.2), "worst_group": None}
    assert explanation_report(np.array([np.nan]), np.array([0]), worst_group=0) is None


def test_every_measure_of_an_image_is_there_and_elsewhere_only_where_the_attribute_has_a_place(patches: Dataset):
    places = Places(attribute={"1": [(8, 8, 16, 12)]}, objects={})
    measured = measure_explanations(
        ColourBackbone(), [ColourBackbone().heads(), random_runs(2)], patches, COLOURS, places=places
    )
    assert list(measured) == [*ON_OBJECT, *ELSEWHERE]
    for name in ON_OBJECT:
        assert measured[name].shape == (3, 3)
        assert not np.isnan(measured[name]).any()
    for name in ELSEWHERE:
        assert np.isnan(measured[name]).tolist() == [[True, False, True]] * 3
    assert measured["energy"][0, 1] == measured["on_object"][0, 1] > 0.7
    assert (measured["pointing"][0] == 1).all()
    assert measured["object_area"][:, 1].tolist() == [0.25] * 3
    assert measured["attribute_area"][:, 1].tolist() == [0.125] * 3


def test_a_model_that_takes_the_shortcut_has_its_map_on_the_attribute(patches: Dataset):
    places = Places(attribute={str(image): [(8, 8, 16, 12)] for image in range(3)}, objects={})
    backbone = ColourBackbone()
    confused = {**backbone.heads(), "image.weight": torch.eye(3).roll(1, dims=1)}
    measured = measure_explanations(backbone, [backbone.heads(), confused], patches, COLOURS, places=places)
    good, bad = measured["on_attribute"]
    assert (good < 0.1).all()
    assert (bad > 0.6).all()


def test_detected_objects_stand_in_where_nothing_is_marked_and_are_no_ground_truth(tmp_path: Path):
    name = write(tmp_path, "red.png", {(0, 0, 8, 8): 0, (8, 8, 16, 12): 1}, (SIDE, SIDE))
    dataset = dataset_of(tmp_path, [{"image": name, "label": 0}, {"image": "missing.png", "label": 0}])
    places = Places(attribute={"0": [(8, 0, 16, 16)], "1": [(0, 0, 4, 4)]}, objects={"0": [(0, 0, 8, 8)]})
    backbone = ColourBackbone()
    measured = measure_explanations(backbone, [backbone.heads()], dataset, COLOURS, places=places)
    assert measured["on_object"][0, 0] > 0.5
    assert np.isnan(measured["aiou"]).all()
    assert np.isnan(measured["on_object"][0, 1]), "an attribute without an object to hold it against"


def test_maps_that_need_attention_are_refused_before_an_image_is_read(patches: Dataset):
    with pytest.raises(ModelError, match="rollout"):
        measure_explanations(ColourBackbone(), [random_runs(1)], patches, COLOURS, method=ROLLOUT)


def sideways(folder: Path, *, orientation: int, mask_size: tuple[int, int]) -> Dataset:
    """A photograph stored on its side, red where its mask, drawn on the stored pixels, says that the object is."""
    stored = np.zeros((SIDE, 2 * SIDE, 3), dtype=np.uint8)
    stored[:8, 8:16] = PALETTE[0]
    stored[12:, 20:24] = PALETTE[1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(folder / "photo.png", exif=exif)
    mask = Image.fromarray(np.ascontiguousarray(stored[..., 0])).resize(mask_size, Image.Resampling.NEAREST)
    mask.save(folder / "mask.png")
    return dataset_of(folder, [{"image": "photo.png", "label": 0, "mask": "mask.png"}])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("mask_size", [(32, 16), (16, 8)])
def test_a_mask_of_the_stored_pixels_is_turned_as_its_photograph_is(
    tmp_path: Path, orientation: int, mask_size: tuple[int, int]
):
    dataset = sideways(tmp_path, orientation=orientation, mask_size=mask_size)
    measured = measure_explanations(ColourBackbone(), [ColourBackbone().heads()], dataset, COLOURS)
    assert measured["pointing"][0, 0] == 1
    assert measured["energy"][0, 0] > 0.6


def test_a_mask_that_lies_sideways_to_an_upright_photograph_is_refused(tmp_path: Path):
    dataset = sideways(tmp_path, orientation=1, mask_size=(16, 32))
    with pytest.raises(UnreadableImage, match="16 x 32 pixels and its image 32 x 16; turn it upright"):
        measure_explanations(ColourBackbone(), [ColourBackbone().heads()], dataset, COLOURS)
