"""Pre-training in small: the two phases, and the command that runs them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from despur.birdland import train
from despur.birdland.aligning import contrastive_loss, fit_captions, frozen_features
from despur.birdland.captions import CaptionMix, caption_table, phrases_of
from despur.birdland.fitting import FitSettings, close_ups, learning_rate_at, mirrored, shifted
from despur.birdland.models import load_small, new_small, read_card
from despur.birdland.pretraining import NAMES, DrawnScenes, draw_scenes, plan_pretraining
from despur.birdland.recipes import input_size, recipe_for
from despur.birdland.studies import plan_birds, plan_objects
from despur.birdland.tagging import cell_tags, fit_tags
from despur.errors import ModelError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scenes() -> DrawnScenes:
    return draw_scenes(plan_pretraining(5, birds=12, objects=4), workers=1)


def test_half_of_the_birds_are_of_each_kind_and_the_correlation_is_kept():
    plans = plan_pretraining(0, birds=4000, objects=0, bird_correlation=0.9)
    assert sum(plan.label for plan in plans) == 2000
    usual = sum(plan.present == (plan.label == 1) for plan in plans) / len(plans)
    assert usual == pytest.approx(0.9, abs=0.02)


def test_no_scene_of_pretraining_is_one_of_a_study():
    seen = {plan.seed for plan in plan_pretraining(0, birds=50, objects=50)}
    assert not seen & {plan.seed for plan in plan_birds(0, 0.01) + plan_objects(0, train=50, val=20, test=20)}


def test_scenes_come_with_what_they_show(scenes: DrawnScenes):
    assert scenes.pixels.shape == (16, 3, 96, 96)
    for index, shown in enumerate(scenes.shown):
        x0, y0, x1, y1 = (int(edge) for edge in scenes.boxes[index])
        owners = scenes.owners[index, y0:y1, x0:x1]
        assert (owners == NAMES.index(shown.subject) + 1).any()
        assert shown.relation == ("on" if index < 12 else "with")


def test_a_close_up_holds_its_box():
    pixels = torch.zeros(40, 3, 96, 96, dtype=torch.uint8)
    corners = torch.randint(0, 76, (40, 2), generator=generator())
    boxes = torch.cat([corners, corners + 20], dim=1).float()
    for picture, (x, y) in zip(pixels, corners.tolist(), strict=True):
        picture[:, y : y + 20, x : x + 20] = 200
    seen = close_ups(pixels, boxes, 40, generator())
    assert seen.shape == (40, 3, 40, 40)
    assert ((seen == 200).sum((1, 2, 3)) == 3 * 20 * 20).all()


def test_pictures_are_mirrored_half_of_the_time_and_moved_a_little():
    pixels = torch.arange(8, dtype=torch.uint8).expand(400, 1, 8, 8)
    flipped = (mirrored(pixels, generator()) != pixels).flatten(1).any(1)
    assert 0.4 < flipped.float().mean() < 0.6
    moves = shifted(pixels, 2, generator())[:, 0, 0, 4].long() - 4
    assert set(moves.tolist()) == {-2, -1, 0, 1, 2}


def test_a_cell_is_tagged_with_what_fills_enough_of_it():
    owners = torch.zeros(1, 8, 8, dtype=torch.uint8)
    owners[0, :4, :4] = 1
    owners[0, 7, 7] = 3
    tags = cell_tags(owners, 2)
    assert tags.shape == (1, len(NAMES), 2, 2)
    assert tags[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert tags[0, 2].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert tags.sum() == 2


def test_the_contrastive_loss_equals_a_loop_over_its_equation():
    images, texts = (
        F.normalize(torch.randn(5, 4, generator=generator(s), dtype=torch.float64), dim=-1) for s in (0, 1)
    )
    scale = torch.tensor(7.0, dtype=torch.float64)
    total = 0.0
    for i in range(5):
        by_image = [math.exp(7 * float(images[i] @ texts[j])) for j in range(5)]
        by_text = [math.exp(7 * float(images[j] @ texts[i])) for j in range(5)]
        total -= math.log(by_image[i] / sum(by_image)) + math.log(by_text[i] / sum(by_text))
    assert float(contrastive_loss(images, texts, scale)) == pytest.approx(total / 10, abs=1e-12)


def test_the_rate_rises_then_falls_to_zero():
    settings = FitSettings(learning_rate=1.0, warm_up=10)
    rates = [learning_rate_at(step, 110, settings) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
    assert rates[110] == pytest.approx(0.0)


@pytest.mark.parametrize(("name", "close_up", "size"), [("resnet", 56, 96), ("resnet", None, 160), ("vit", 40, 40)])
def test_a_close_up_fills_an_input_in_proportion(name: str, close_up: int | None, size: int):
    assert input_size(name, close_up) == size


def test_a_control_has_no_correlation_in_its_captions():
    recipe = recipe_for("vit", scenes=90, epochs=1, correlation=0.5)
    assert (recipe.captioned.birds, recipe.captioned.objects) == (60, 30)
    assert (recipe.captioned.bird_correlation, recipe.captioned.object_correlation) == (0.5, 0.5)
    assert {view.epochs for view in recipe.views} == {1}


def test_tags_train_the_image_tower_and_captions_all_but_it(scenes: DrawnScenes):
    small = new_small("resnet", seed=0)
    start = {name: value.clone() for name, value in small.model.state_dict().items()}
    fit_tags(small, scenes, FitSettings(epochs=1, batch_size=8))
    tagged = {name: value.clone() for name, value in small.model.state_dict().items()}
    captions = caption_table([phrases_of(shown, CaptionMix()) for shown in scenes.shown])
    fit_captions(small, frozen_features(small, scenes), captions, ["a {}."], FitSettings(epochs=1, batch_size=8))
    captioned = small.model.state_dict()

    def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[bool]:
        return {name.startswith("visual.") for name in before if not torch.equal(before[name], after[name])}

    assert moved(start, tagged) == {True}
    heads = {"visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias"}
    changed = {name for name in tagged if not torch.equal(tagged[name], captioned[name])}
    assert {name for name in changed if name.startswith("visual.")} == heads
    assert {"token_embedding.weight", "text_projection", "logit_scale"} <= changed


def test_the_command_writes_a_model_that_loads_and_says_what_it_did(tmp_path, capsys: pytest.CaptureFixture[str]):
    assert train.main(["vit", "--quick", "--seed", "3", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "seed 3" in said
    assert "waterbird on land" in said
    card = read_card("vit", tmp_path)
    assert card["recipe"]["seed"] == 3
    assert card["versions"]["torch"]
    tokens = load_small("vit", tmp_path).tokenizer(["a bird"])
    assert load_small("vit", tmp_path).model.encode_text(tokens).isfinite().all()


def test_a_correlation_that_means_nothing_is_refused(capsys: pytest.CaptureFixture[str]):
    assert train.main(["vit", "--quick", "--correlation", "1.5"]) == 2
    assert "correlation" in capsys.readouterr().err


def test_kept_tags_spare_the_first_phase_and_end_in_the_same_model(tmp_path):
    recipe = recipe_for("vit", scenes=16, epochs=1)
    kept, said = tmp_path / "tags.safetensors", list[str]()
    whole = train.train(recipe, tags=kept).model.state_dict()
    again = train.train(recipe, tags=kept, say=said.append).model.state_dict()
    # Not to the last bit: where tensors lie in memory decides how a product is summed.
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, rtol=1e-5, atol=1e-5)
    assert not any("close-ups" in line for line in said)


def test_tags_of_another_recipe_or_damaged_ones_are_refused(tmp_path):
    kept = tmp_path / "tags.safetensors"
    train.train(recipe_for("vit", scenes=16, epochs=1), tags=kept)
    with pytest.raises(ModelError, match="another recipe"):
        train.train(recipe_for("vit", seed=1, scenes=16, epochs=1), tags=kept)
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        train.train(recipe_for("vit", scenes=16, epochs=1), tags=kept)
