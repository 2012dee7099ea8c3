"""The small OWL-ViT: what it is taught, that a stopped training ends the same, and that what ships sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from despur.birdland.detector import DetectorRecipe, make_detector, other_phrases
from despur.birdland.detector_fitting import VALUES, ViewSettings, fit_detector, focal_loss, forward_windows
from despur.birdland.detector_judging import judge_detector, scores_of
from despur.birdland.detector_model import (
    DETECTED,
    FOLDER,
    SmallDetector,
    detector_tokenizer,
    load_small_detector,
    move_logits,
    new_detector,
    read_detector_card,
)
from despur.birdland.detector_targets import draw_windows, make_targets, thing_boxes
from despur.birdland.pretraining import DrawnScenes, draw_scenes, plan_pretraining
from despur.birdland.studies import plan_objects
from despur.birdland.tokens import load_tokenizer
from despur.detect import load_detector
from despur.errors import ModelError

OTHERS = ["sea", "boat", "house", "bridge"]
VIEWS = (
    ViewSettings(epochs=2, batch_size=8, close_up=48, negatives=2, warm_up=2),
    ViewSettings(epochs=1, batch_size=8, negatives=2, warm_up=2),
)


@pytest.fixture(scope="module")
def scenes() -> DrawnScenes:
    return draw_scenes(plan_pretraining(5, birds=0, objects=16), workers=1)


def test_texts_give_the_tokens_of_the_small_clips() -> None:
    theirs, ours = load_tokenizer(), detector_tokenizer()
    for text in ("a photo of a teapot", "fire hydrant", "Wi-Fi  router, 2.4 GHz"):
        ids = ours([text])["input_ids"][0]
        assert ids == [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id]


def test_with_every_place_in_order_the_forward_is_the_librarys() -> None:
    small = new_detector(3)
    model: Any = small.model.eval()
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    tokenizer: Any = small.tokenizer
    text = tokenizer(["a photo of a cup", "a sea"], padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        theirs = model(
            pixel_values=pixels,
            input_ids=text["input_ids"].repeat(2, 1),
            attention_mask=text["attention_mask"].repeat(2, 1),
        )
        logits, boxes = forward_windows(model, pixels, torch.arange(144).expand(2, -1), text["input_ids"])
    torch.testing.assert_close(logits, theirs.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes, theirs.pred_boxes, atol=1e-5, rtol=0)


def test_moving_the_logits_moves_every_one_by_the_same() -> None:
    small = new_detector(3)
    pixels, places = torch.randn(1, 3, 96, 96), torch.arange(144).expand(1, -1)
    tokens = torch.tensor([[784, 3, 785], [784, 9, 785]])
    with torch.no_grad():
        before, _ = forward_windows(small.model, pixels, places, tokens)
        move_logits(small.model, 1.5)
        after, _ = forward_windows(small.model, pixels, places, tokens)
    torch.testing.assert_close(after, before + 1.5)


def test_a_box_is_tight_around_the_pixels_that_are_seen() -> None:
    owners = torch.zeros(2, 16, 16, dtype=torch.uint8)
    owners[0, 3:5, 7:12] = 4
    boxes, seen = thing_boxes(owners, [4, 5])
    assert boxes[0, 0].tolist() == [7, 3, 12, 5]
    assert seen.tolist() == [[True, False], [False, False]]
    assert boxes[1].abs().sum() == 0


def test_a_thing_is_named_under_its_centre_and_with_reach_in_the_middle_of_its_box() -> None:
    boxes, seen = torch.tensor([[[8.0, 8.0, 40.0, 24.0]]]), torch.tensor([[True]])
    corner = torch.tensor([[0, 0]])

    def places(reach: float) -> list[int]:
        targets = make_targets(boxes, seen, corner, grid=6, window=6, patch=8, reach=reach)
        return targets.positive[0, :, 0].nonzero().flatten().tolist()

    # The centre is at (24, 16): the place in column 3 and row 2.
    assert places(0.0) == [2 * 6 + 3]
    # Half of the box spans x 16 to 32 and y 12 to 20: its middles are those of columns 2 and 3, rows 1 and 2.
    assert places(0.5) == [6 + 2, 6 + 3, 12 + 2, 12 + 3]


def test_what_a_window_cuts_off_is_neither_right_nor_wrong_to_name() -> None:
    boxes, seen = torch.tensor([[[0.0, 0.0, 40.0, 8.0]]]), torch.tensor([[True]])
    targets = make_targets(boxes, seen, torch.tensor([[0, 0]]), grid=6, window=3, patch=8, reach=0.5)
    assert not targets.positive.any()
    assert targets.ignored[0, :3, 0].all()
    logits = torch.full((1, 9, 1), 5.0)
    everywhere = focal_loss(logits, targets.positive, torch.zeros_like(targets.ignored))
    assert focal_loss(logits, targets.positive, targets.ignored) < everywhere


def test_a_window_holds_the_thing_that_it_was_drawn_for() -> None:
    boxes = torch.tensor([[[40.0, 56.0, 60.0, 80.0]]]).expand(50, -1, -1)
    seen = torch.ones(50, 1, dtype=torch.bool)
    corners = draw_windows(boxes, seen, 12, 6, 8, torch.Generator().manual_seed(0)) * 8
    assert (corners <= torch.tensor([40, 56])).all()
    assert (corners + 48 >= torch.tensor([60, 80])).all()
    assert len(corners.unique(dim=0)) > 3


def test_no_phrase_that_is_offered_as_wrong_names_something_shown() -> None:
    others = set(other_phrases())
    assert len(others) > 1000
    assert not others & {*DETECTED, *(f"{name}s" for name in DETECTED)}


def test_a_stopped_training_goes_on_and_ends_with_the_same_weights(scenes: DrawnScenes, tmp_path: Path) -> None:
    whole, stopped = new_detector(0), new_detector(0)
    fit_detector(whole, scenes, VIEWS, OTHERS)

    class Stopped(BaseException):
        pass

    for after in (1, 2):
        told: list[str] = []

        def say(line: str, told: list[str] = told, after: int = after) -> None:
            if len(told) == after:
                raise Stopped
            told.append(line)

        stopped = new_detector(0)
        with pytest.raises(Stopped):
            fit_detector(stopped, scenes, VIEWS, OTHERS, checkpoint=tmp_path / f"{after}.pt", say=say)
        resumed = new_detector(0)
        fit_detector(resumed, scenes, VIEWS, OTHERS, checkpoint=tmp_path / f"{after}.pt")
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_checkpoint_of_another_training_is_refused(scenes: DrawnScenes, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    fit_detector(new_detector(0), scenes, VIEWS[1:], OTHERS, checkpoint=file, state="one")
    with pytest.raises(ModelError, match="another training"):
        fit_detector(new_detector(0), scenes, VIEWS[1:], OTHERS, checkpoint=file, state="two")
    file.write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="damaged"):
        fit_detector(new_detector(0), scenes, VIEWS[1:], OTHERS, checkpoint=file, state="one")


def test_what_is_written_is_an_ordinary_checkpoint_with_a_card(tmp_path: Path) -> None:
    recipe = DetectorRecipe(scenes=16, chosen_on=8, judged_on=8, views=VIEWS[1:])
    card = make_detector(recipe, tmp_path / "detector")
    assert read_detector_card(tmp_path / "detector") == json.loads(json.dumps(card))
    by_folder = load_detector(f"hf:{tmp_path / 'detector'}")
    by_name = load_small_detector(folder=tmp_path / "detector")
    assert by_folder.fingerprint() == by_name.fingerprint()


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"python -m despur\.birdland\.detector"):
        load_small_detector(folder=tmp_path)


def shipped() -> SmallDetector:
    detector: Any = load_small_detector()
    return SmallDetector(detector._model, detector._tokenizer, detector._image_processor)


def test_the_shipped_detector_is_small_and_its_card_meets_the_target() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8_000_000
    scores = read_detector_card()["scores"]
    assert scores["mean_f1"] >= 0.95
    assert scores["worst_f1"] >= 0.90


def test_the_shipped_detector_sees_what_its_card_says() -> None:
    held_out = draw_scenes(plan_objects(90_003, train=0, val=0, test=96), workers=1)
    assert scores_of(judge_detector(shipped(), held_out), 0.1)["mean_f1"] >= 0.90


def test_the_shipped_detector_finds_a_thing_where_it_is() -> None:
    held_out = draw_scenes(plan_objects(90_003, train=0, val=0, test=24), workers=1)
    judged = judge_detector(shipped(), held_out)
    assert scores_of(judged, 0.1)["mean_box_iou"] > 0.6
    boxes, _ = thing_boxes(held_out.owners, VALUES)
    assert boxes.shape == (24, len(DETECTED), 4)


def test_the_shipped_detector_finds_little_in_a_picture_of_nothing() -> None:
    detector = load_small_detector()
    found = detector.detect([Image.new("RGB", (96, 96), (180, 170, 160))], detector.encode(DETECTED))
    assert len(found.phrase) == 0


@pytest.mark.slow
def test_the_shipped_detector_meets_the_target_on_scenes_that_no_one_chose_anything_on() -> None:
    held_out = draw_scenes(plan_objects(90_002, train=0, val=0, test=1200), workers=1)
    scores = scores_of(judge_detector(shipped(), held_out), 0.1)
    assert scores["mean_f1"] >= 0.95
    assert scores["worst_f1"] >= 0.90
