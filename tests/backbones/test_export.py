"""Heads back in ordinary checkpoints, which a fresh process loads without despur."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from despur.backbones.export_open_clip import write_open_clip
from despur.backbones.export_transformers import write_transformers
from despur.backbones.heads import Heads, class_logits
from despur.backbones.huggingface import load_huggingface
from despur.backbones.open_clip import OpenClipBackbone, build, load_open_clip
from despur.backbones.placing import blended, placed
from despur.backbones.protocol import Backbone
from despur.backbones.registry import choose, model_config
from despur.birdland.models import load_birdland
from despur.errors import ModelError

Write = Callable[..., Path]

TEXTS = ["a photo of a waterbird.", "a landbird on water"]

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
    "quick_gelu": True,
}
"""An architecture that both processes register with open_clip by the name of its file."""

READER = """
import json, sys
from pathlib import Path
import open_clip, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, pipeline

home, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
open_clip.add_model_config(home / "despur-test-ViT.json")
pictures = [Image.open(file) for file in sorted(home.glob("*.png"))]
found = {}
with torch.no_grad():
    for name in ("vit", "resnet", "named"):
        folder = home / f"{name}-open-clip"
        if name == "named":
            model, _, prepare = open_clip.create_model_and_transforms(
                "despur-test-ViT", pretrained=str(folder / "open_clip_model.safetensors"))
            tokenizer = open_clip.get_tokenizer("despur-test-ViT")
        else:
            model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        images = torch.stack([prepare(picture) for picture in pictures])
        found[folder.name] = model.eval().get_logits(images, tokenizer(texts))[0].tolist()
    for name in ("vit", "named", "clip"):
        folder = home / f"{name}-transformers"
        model = AutoModel.from_pretrained(folder).eval()
        images = torch.load(home / f"{name}.pt", weights_only=True)
        tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
        found[folder.name] = model(pixel_values=images, input_ids=tokens["input_ids"]).logits_per_image.tolist()
        AutoImageProcessor.from_pretrained(folder)
        classify = pipeline("zero-shot-image-classification", model=str(folder))
        scores = classify(pictures[0], candidate_labels=texts, hypothesis_template="{}")
        found[f"{folder.name} scores"] = sum(score["score"] for score in scores)
found["despur"] = "despur" in sys.modules
print(json.dumps(found))
"""


def pictures() -> list[Image.Image]:
    """Ten photographs of nothing, wide and high; sides that every library's crop halves alike."""
    generator = np.random.default_rng(0)
    sizes = [(64 + 8 * place, 128 - 8 * place) for place in range(10)]
    smooth = [generator.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(seen).resize(size) for seen, size in zip(smooth, sizes, strict=True)]


def trained(heads: Heads) -> dict[str, Tensor]:
    """Heads that differ from those given everywhere, as after training."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: head + 0.05 * torch.randn(head.shape, generator=generator) if head.is_floating_point() else head
        for name, head in heads.items()
    }


def logits(backbone: Backbone, heads: Heads) -> Tensor:
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures()])
    prompts = backbone.text_features(backbone.tokenize(TEXTS))
    return class_logits(heads, backbone.image_features(pixels), prompts[None])


@pytest.fixture(scope="module")
def exported(write_model: Write, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Logits of every exported model here, and in one fresh process that loads all of them."""
    home = tmp_path_factory.mktemp("exported")
    (home / "despur-test-ViT.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(home / "despur-test-ViT.json")
    save_file(build(ARCHITECTURE, seed=0, spec="").state_dict(), home / "despur-test-ViT.safetensors")
    backbones: dict[str, Any] = {
        "vit": load_birdland("vit"),
        "resnet": load_birdland("resnet", trainable="attention-pool"),
        "named": load_open_clip(f"despur-test-ViT/{home}/despur-test-ViT.safetensors"),
        "clip": load_huggingface(str(write_model(home / "own", "clip"))),
    }
    here: dict[str, Tensor] = {}
    for place, picture in enumerate(pictures()):
        picture.save(home / f"{place}.png")
    for name, backbone in backbones.items():
        heads = trained(backbone.heads())
        torch.save(torch.stack([backbone.preprocess(picture) for picture in pictures()]), home / f"{name}.pt")
        for kind, write in (("open-clip", write_open_clip), ("transformers", write_transformers)):
            if (name, kind) in (("clip", "open-clip"), ("resnet", "transformers")):
                continue
            folder = home / f"{name}-{kind}"
            folder.mkdir()
            write(backbone, heads, folder)
            here[folder.name] = logits(backbone, heads)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(home), json.dumps(TEXTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return here, json.loads(done.stdout)


def test_an_exported_model_does_not_say_from_which_folder_it_was_read(write_model: Write, tmp_path: Path) -> None:
    home = tmp_path / "ann"
    home.mkdir()
    (home / "despur-test-home.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(home / "despur-test-home.json")
    save_file(build(ARCHITECTURE, seed=0, spec="").state_dict(), home / "mine.safetensors")
    write_transformers(clip := load_huggingface(str(write_model(home / "own", "clip"))), clip.heads(), tmp_path)
    named = load_open_clip(f"despur-test-home/{home}/mine.safetensors")
    write_open_clip(named, named.heads(), tmp_path)
    assert "own" in clip.spec
    written = [file for file in tmp_path.iterdir() if file.is_file()]
    assert [file.name for file in written if str(home).encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    "folder",
    [
        "vit-open-clip",
        "resnet-open-clip",
        "named-open-clip",
        "vit-transformers",
        "named-transformers",
        "clip-transformers",
    ],
)
def test_a_fresh_process_without_despur_gets_the_same_logits(
    folder: str, exported: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    here, there = exported
    assert there["despur"] is False
    torch.testing.assert_close(torch.tensor(there[folder]), here[folder], atol=1e-5, rtol=1e-5)
    assert here[folder].std() > 0.01
    if folder.endswith("transformers"):
        assert there[f"{folder} scores"] == pytest.approx(1.0, abs=1e-5)


def test_a_folder_is_read_again_as_a_model_with_the_trained_heads(tmp_path: Path) -> None:
    backbone = load_birdland("vit")
    heads = trained(backbone.heads())
    write_open_clip(backbone, heads, tmp_path)
    again = load_open_clip(f"local-dir:{tmp_path}")
    for name, head in again.heads().items():
        torch.testing.assert_close(head, heads[name])
    torch.testing.assert_close(logits(again, again.heads()), logits(backbone, heads), atol=1e-5, rtol=1e-5)


def test_a_blend_is_linear_in_every_weight_and_its_ends_are_the_two_models() -> None:
    before = {"image.weight": torch.zeros(2, 2), "pool.heads": torch.tensor(4)}
    after = {"image.weight": torch.full((2, 2), 8.0), "pool.heads": torch.tensor(4)}
    assert blended(before, after, 0.25)["image.weight"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert torch.equal(blended(before, after, 0.0)["image.weight"], before["image.weight"])
    assert torch.equal(blended(before, after, 1.0)["image.weight"], after["image.weight"])
    assert blended(before, after, 0.5)["pool.heads"] == 4


def test_the_models_own_heads_leave_every_weight_as_it_was() -> None:
    for backbone in (load_birdland("vit"), load_birdland("resnet", trainable="attention-pool")):
        own = backbone.model.state_dict()
        for name, value in placed(backbone, backbone.heads()).items():
            torch.testing.assert_close(value, own[name].cpu(), rtol=0, atol=1e-6)


def test_a_temperature_below_one_hundredth_is_written_as_despur_reads_it() -> None:
    backbone = load_birdland("vit")
    hot = {**backbone.heads(), "logit_scale": torch.tensor(9.0)}
    assert placed(backbone, hot)["logit_scale"].exp().item() == pytest.approx(100.0)


def test_what_transformers_has_no_place_for_is_refused_with_the_reason(write_model: Write, tmp_path: Path) -> None:
    resnet = load_birdland("resnet")
    with pytest.raises(ModelError, match="its image tower is a ModifiedResNet, and CLIPModel has a vision transformer"):
        write_transformers(resnet, resnet.heads(), tmp_path)
    siglip = load_huggingface(str(write_model(tmp_path / "siglip", "siglip")))
    with pytest.raises(ModelError, match=r"no place for the head image\.weight: its pooling ends in a residual sum"):
        write_transformers(siglip, trained(siglip.heads()), tmp_path)
    with pytest.raises(ModelError, match="none of open_clip's architectures"):
        write_open_clip(siglip, siglip.heads(), tmp_path)
    probe = {**resnet.heads(), "probe.weight": torch.zeros(2, 8), "probe.bias": torch.zeros(2)}
    with pytest.raises(ModelError, match=r"a part of its own \(probe\)"):
        write_open_clip(resnet, probe, tmp_path)


def test_siglips_identity_head_vanishes_where_only_the_text_side_was_trained(
    write_model: Write, tmp_path: Path
) -> None:
    siglip = load_huggingface(str(write_model(tmp_path / "siglip", "siglip")))
    heads = {**trained(siglip.heads()), "image.weight": torch.eye(32)}
    (tmp_path / "out").mkdir()
    write_transformers(siglip, heads, tmp_path / "out")
    again = load_huggingface(str(tmp_path / "out"))
    torch.testing.assert_close(logits(again, again.heads()), logits(siglip, heads), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_siglips_trained_head_becomes_a_projection_that_open_clip_loads(tmp_path: Path) -> None:
    choice = choose("ViT-B-16-SigLIP")
    config = model_config(choice)
    model = build(config, seed=3, spec=choice.spec)
    tokens = torch.randint(1, 30000, (2, 64), generator=torch.Generator().manual_seed(0))
    backbone = OpenClipBackbone(model, lambda texts, context_length=None: tokens, spec=choice.spec, config=config)
    heads = trained(backbone.heads())
    usage = write_open_clip(backbone, heads, tmp_path)
    assert "pretrained=" not in usage, "open_clip's own architecture has no place for the head"
    again = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = again.get_logits(images, tokens)[0]
    ours = class_logits(heads, backbone.image_features(images), backbone.text_features(tokens)[None])
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert load_file(tmp_path / "open_clip_model.safetensors")["visual.head.proj.weight"].shape == (768, 768)
