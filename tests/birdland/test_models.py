"""The two small CLIPs as they ship, and how they are loaded and resized."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from despur.backbones.heads import project_images, project_texts
from despur.backbones.prompts import fill, openai_templates
from despur.birdland.birds import BIRDS
from despur.birdland.fitting import encoder_input
from despur.birdland.models import (
    SMALL_NAMES,
    WEIGHTS,
    WEIGHTS_FILE,
    load_birdland,
    load_small,
    new_small,
    read_card,
    resized,
)
from despur.birdland.places import PLACES
from despur.birdland.tabletop import COMPANIONS, SUBJECTS
from despur.birdland.things import THINGS
from despur.birdland.tokens import load_tokenizer
from despur.errors import ModelError

each_model = pytest.mark.parametrize("name", SMALL_NAMES)


@each_model
def test_a_shipped_folder_is_an_ordinary_open_clip_folder(name: str):
    ordinary = open_clip.create_model(f"local-dir:{WEIGHTS / name}")
    ours = load_small(name).model
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in ordinary.state_dict().items())


def test_the_shipped_weights_stay_small():
    assert sum((WEIGHTS / name / WEIGHTS_FILE).stat().st_size for name in SMALL_NAMES) < 16_000_000


@each_model
def test_the_card_says_what_a_model_was_trained_on(name: str):
    card = read_card(name)
    assert card["recipe"]["name"] == name
    assert {"seed", "tagged", "captioned", "alignment"} <= card["recipe"].keys()
    groups = card["zero_shot"]["birds"]["groups"]
    assert [group["class"] for group in groups] == ["landbird", "landbird", "waterbird", "waterbird"]


def test_every_planted_companion_helps_the_resnet_by_twenty_points_or_more():
    objects = read_card("resnet")["zero_shot"]["objects"]
    gaps = [row["accuracy_with"] - row["accuracy_without"] for row in objects.values() if row["companion"]]
    assert len(gaps) == 3
    assert min(gaps) >= 0.2


@each_model
def test_a_model_falls_for_the_shortcut_and_still_knows_the_birds(name: str):
    birds = read_card(name)["zero_shot"]["birds"]
    assert birds["average"] >= 0.78
    assert birds["worst_group"] <= 0.60


@each_model
def test_features_and_heads_make_up_the_models_own_embeddings(name: str):
    small, backbone = load_small(name), load_birdland(name)
    pixels = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    inputs, tokens = encoder_input(pixels, small.preprocessing), small.tokenizer(["a photo of a waterbird."])
    with torch.no_grad():
        images = project_images(backbone.heads(), backbone.image_features(inputs))
        texts = project_texts(backbone.heads(), backbone.text_features(tokens))
        torch.testing.assert_close(images, small.model.encode_image(inputs), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(texts, small.model.encode_text(tokens), atol=1e-5, rtol=1e-5)


@each_model
def test_batches_are_prepared_as_single_images_are(name: str):
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    backbone = load_birdland(name)
    batch = encoder_input(torch.from_numpy(pixels).permute(2, 0, 1)[None], load_small(name).preprocessing)
    # One step of 255, as the two resizers may round differently.
    torch.testing.assert_close(batch[0], backbone.preprocess(Image.fromarray(pixels)), atol=1.01 / 255 / 0.26, rtol=0)


def test_every_name_of_the_world_is_one_token():
    tokenizer = load_tokenizer()
    names = [*BIRDS, *PLACES, *THINGS, *SUBJECTS, *COMPANIONS]
    assert {name: len(tokenizer.encode(name)) for name in names} == dict.fromkeys(names, 1)


def test_every_template_leaves_room_for_a_longer_phrase():
    backbone = load_birdland("vit")
    tokens = backbone.tokenize(fill(openai_templates(), ["waterbird on water and an umbrella"]))
    assert tokens.shape == (80, backbone.context_length)


@each_model
def test_new_weights_follow_the_seed_and_leave_the_global_generator_alone(name: str):
    before = torch.random.get_rng_state()
    first, again, other = (new_small(name, seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["text_projection"], other["text_projection"])


@pytest.mark.parametrize(("name", "size"), [("resnet", 96), ("vit", 56)])
def test_a_resized_model_keeps_all_but_its_grid_of_positions(name: str, size: int):
    small = new_small(name, seed=3, image_size=size)
    whole = resized(small)
    old, new = small.model.state_dict(), whole.model.state_dict()
    changed = [key for key in old if old[key].shape != new[key].shape or not torch.equal(old[key], new[key])]
    (name_of_change,) = changed
    assert name_of_change.endswith("positional_embedding")
    assert torch.equal(old[changed[0]][0], new[changed[0]][0])
    assert whole.preprocessing.size == load_small(name).preprocessing.size


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'resnet'"):
        load_small("resnett")


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_missing_and_damaged_weights_say_how_to_get_them(tmp_path, content: bytes | None):
    if content is not None:
        (tmp_path / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"python -m despur\.birdland\.train vit"):
        load_small("vit", tmp_path)
