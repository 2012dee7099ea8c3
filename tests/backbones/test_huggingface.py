"""transformers' CLIP, SigLIP and SigLIP 2: against the library's own features, from folders and by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from despur.backbones.heads import class_logits, project_images, project_texts
from despur.backbones.huggingface import HuggingFaceBackbone, load_huggingface
from despur.backbones.protocol import Backbone
from despur.catalog import load_backbone
from despur.errors import ModelError, SettingsError
from despur.explain.gradcam import class_maps

KINDS = ("clip", "siglip", "siglip2")
CONTEXT = 24
Folder = Callable[[str], Path]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def folder(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a small model of a kind, written once."""
    root = tmp_path_factory.mktemp("models")
    return lambda kind: root / kind if (root / kind).exists() else write_model(root / kind, kind)


def photographs(count: int = 3) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)) for _ in range(count)]


def pixels_of(backbone: Backbone) -> Tensor:
    return torch.stack([backbone.preprocess(image) for image in photographs()])


def squares(backbone: Backbone) -> list[Image.Image]:
    """What SigLIP 2 is given here; the other two crop or squash for themselves."""
    size = (backbone.framing.width, backbone.framing.height)
    return [image.resize(size, Image.Resampling.BILINEAR) for image in photographs()]


@pytest.mark.parametrize("kind", KINDS)
def test_features_through_the_heads_are_the_librarys_own_from_the_photograph_on(kind: str, folder: Folder) -> None:
    backbone = load_backbone(f"hf:{folder(kind)}")
    assert isinstance(backbone, HuggingFaceBackbone)
    assert isinstance(backbone, Backbone)
    model, processor = AutoModel.from_pretrained(folder(kind)).eval(), AutoImageProcessor.from_pretrained(folder(kind))
    given = squares(backbone) if kind == "siglip2" else photographs()
    texts = ["a waterbird", "a boat!"]
    images = dict(processor(images=given, return_tensors="pt").items())
    tokens = AutoTokenizer.from_pretrained(folder(kind))(
        texts, padding="max_length", max_length=CONTEXT, return_tensors="pt"
    )
    with torch.no_grad():
        own_images = model.get_image_features(**images).pooler_output
        own_texts = model.get_text_features(input_ids=tokens.input_ids).pooler_output
        logits = model(input_ids=tokens.input_ids, **images).logits_per_image
    heads = backbone.heads()
    features, prompts = backbone.image_features(pixels_of(backbone)), backbone.text_features(backbone.tokenize(texts))
    torch.testing.assert_close(project_images(heads, features), own_images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(project_texts(heads, prompts), own_texts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(class_logits(heads, features, prompts[None]), logits, atol=1e-5, rtol=1e-5)
    assert ("logit_bias" in heads) == (kind != "clip")


@pytest.mark.parametrize("kind", KINDS)
def test_gradcam_explains_it_as_its_equations_say(kind: str, folder: Folder) -> None:
    backbone = load_huggingface(str(folder(kind)))
    images, prompts = pixels_of(backbone), torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(2))
    heads, output = backbone.heads(), backbone.trunk(images)
    torch.testing.assert_close(backbone.finish(output), backbone.image_features(images))
    assert output.grid == (4, 4)
    maps = class_maps(backbone, heads, images, prompts)[:, 1]
    text = nn.functional.normalize(nn.functional.normalize(project_texts(heads, prompts[:, 1]), dim=-1).mean(0), dim=0)
    layer = output.activations.clone().requires_grad_()
    features = backbone.finish(type(output)(layer, output.residual, output.grid, output.prefix_tokens))
    embedded = nn.functional.normalize(project_images(heads, features), dim=-1)
    (gradient,) = torch.autograd.grad((100 * embedded @ text).sum(), layer)
    weights = output.spatial(gradient).mean((-2, -1), keepdim=True)
    expected = (weights * output.spatial(layer.detach())).sum(1).relu()
    expected = expected - expected.amin((-2, -1), keepdim=True)
    expected = expected / (expected.amax((-2, -1), keepdim=True) + 1e-7)
    torch.testing.assert_close(maps, expected, atol=1e-3, rtol=1e-3)


def test_a_bright_patch_lights_its_own_place_in_the_grid(folder: Folder) -> None:
    """SigLIP 2's patches, cut from an image and laid out again, are where they were."""
    backbone = load_huggingface(str(folder("siglip2")))
    dark = np.zeros((32, 32, 3), dtype=np.uint8)
    marked = dark.copy()
    marked[8:16, 24:32] = (250, 128, 3)
    before, after = (backbone.preprocess(Image.fromarray(image)) for image in (dark, marked))
    changed = (after - before).abs().sum(0) > 0
    assert changed[8:16, 24:32].all()
    assert changed.sum() == 64
    assert after[:, 10, 28].tolist() == pytest.approx([2 * value / 255 - 1 for value in (250, 128, 3)])


def test_a_text_that_does_not_fit_is_named(folder: Folder) -> None:
    backbone = load_huggingface(str(folder("clip")))
    assert backbone.tokenize(["b" * 23]).shape == (1, 24)
    with pytest.raises(ModelError, match="has 31 tokens, the model reads 24"):
        backbone.tokenize(["b" * 30])


def test_weights_preprocessing_and_trained_part_are_in_the_fingerprint(
    folder: Folder, write_model: Write, tmp_path: Path
) -> None:
    before = load_huggingface(str(folder("clip"))).fingerprint()
    assert load_huggingface(str(folder("clip"))).fingerprint() == before
    assert load_huggingface(str(write_model(tmp_path / "other", "clip", seed=1))).fingerprint() != before
    same = write_model(tmp_path / "same", "clip")
    settings = json.loads((same / "preprocessor_config.json").read_text())
    (same / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.1, 0.2, 0.3]}))
    assert load_huggingface(str(same)).fingerprint() != before


def test_random_weights_need_a_folder_without_weights_and_come_from_the_seed(
    folder: Folder, write_model: Write, tmp_path: Path
) -> None:
    bare = write_model(tmp_path / "bare", "siglip")
    (bare / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="transformers cannot read it"):
        load_huggingface(str(bare))
    one, again, other = (load_huggingface(str(bare), random_weights=True, seed=seed) for seed in (3, 3, 4))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_folder_that_lacks_a_tensor_is_refused_and_not_filled_at_random(write_model: Write, tmp_path: Path) -> None:
    holed = write_model(tmp_path / "holed", "clip")
    state = load_file(holed / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, holed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 of its tensors are in no file, the first is visual_projection\.weight"):
        load_huggingface(str(holed))


def test_what_cannot_be_used_is_refused_with_what_to_do(folder: Folder, write_model: Write, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        load_huggingface("./nowhere")
    with pytest.raises(SettingsError, match="no attention pool"):
        load_huggingface(str(folder("clip")), trainable="attention-pool")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="it is a bert, and despur knows clip, siglip, siglip2"):
        load_huggingface(str(tmp_path))
    odd = write_model(tmp_path / "odd", "clip")
    settings = json.loads((odd / "preprocessor_config.json").read_text())
    (odd / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"shortest_edge": 40}}))
    with pytest.raises(ModelError, match="boxes and masks cannot follow"):
        load_huggingface(str(odd))


def test_a_name_that_no_hub_gives_says_what_to_fetch_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("despur.backbones.hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("despur.backbones.hub.urlopen", unreachable)
    monkeypatch.setattr("despur.backbones.hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ModelError) as caught:
        load_huggingface("openai/clip-vit-base-patch32")
    said = str(caught.value)
    assert "fetch https://huggingface.co/openai/clip-vit-base-patch32/resolve/main/config.json" in said
    assert said.endswith("put them into one folder here and give --model hf:FOLDER")
