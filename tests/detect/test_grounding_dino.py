from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from despur.detect.protocol import NOT_FINITE

PHRASES = ["water", "bamboo", "sea", "a tree", "lake", "sky", "glass of water"]
PROMPTS = [["water", "bamboo", "sea", "a tree"], ["lake", "sky", "glass of water"]]


def noise_images(*sizes: tuple[int, int]) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def test_scores_boxes_and_phrases_are_those_of_transformers_forward_over_each_prompt(dino: Any) -> None:
    images = noise_images((64, 64), (90, 60), (64, 64))
    queries = dino.detector.encode(PHRASES)
    assert [len(prompt.spans) for prompt in queries.encoded] == [len(prompt) for prompt in PROMPTS]
    found = dino.detector.detect(images, queries)
    assert len(found.score) > 0
    for index, image in enumerate(images):
        expected: list[tuple[float, int, list[float]]] = []
        first = 0
        for prompt, phrases in zip(queries.encoded, PROMPTS, strict=True):
            boxes, tokens = dino.theirs(image, phrases)
            border = torch.tensor([*image.size, *image.size], dtype=torch.float32)
            for box, row in zip(boxes.clamp(min=0).minimum(border), tokens, strict=True):
                scores = [float(row[span].max()) for span in prompt.spans]
                if row.max() > 0.6 and max(scores) > 0.3 and (box[2:] > box[:2]).all():
                    expected.append((float(row.max()), first + int(np.argmax(scores)), box.tolist()))
            first += len(phrases)
        ours = found.image == index
        np.testing.assert_allclose(found.score[ours], [one[0] for one in expected], atol=1e-4)
        np.testing.assert_array_equal(found.phrase[ours], [one[1] for one in expected])
        np.testing.assert_allclose(found.box[ours], [one[2] for one in expected], atol=1e-4 * max(image.size))


def test_each_prompt_is_read_once_a_run_and_each_image_once(dino: Any) -> None:
    calls = {"text": 0, "image": 0}
    core = dino.model.model
    handles = [
        core.text_backbone.register_forward_hook(lambda *_: calls.update(text=calls["text"] + 1)),
        core.backbone.register_forward_hook(lambda *_: calls.update(image=calls["image"] + 1)),
    ]
    try:
        queries = dino.detector.encode(PHRASES)
        for _ in range(3):
            dino.detector.detect(noise_images((64, 64)), queries)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == {"text": len(PROMPTS), "image": 3}


def test_the_model_is_left_as_it_was(dino: Any) -> None:
    towers = dino.model.model.text_backbone, dino.model.model.backbone
    dino.detector.detect(noise_images((64, 64)), dino.detector.encode(PHRASES))
    assert (dino.model.model.text_backbone, dino.model.model.backbone) == towers


def test_a_batch_that_cannot_be_judged_leaves_no_features_behind(dino: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = dino.detector.encode(PHRASES)

    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(dino.detector, "_read", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        dino.detector.detect(noise_images((64, 64)), queries)
    assert dino.detector._backbone.answer is None
    assert dino.detector._text.answer is None


def test_a_phrase_that_fills_more_than_a_prompt_is_left_out_and_named(dino: Any) -> None:
    queries = dino.detector.encode(["sea", "a tree of glass of water of a lake of a sky"])
    assert queries.phrases == ("sea",)
    assert "does not fit a prompt" in queries.removed[0].reason


def test_a_full_stop_inside_a_phrase_does_not_part_it(dino: Any) -> None:
    queries = dino.detector.encode(["a. tree", "sea"])
    assert len(queries.encoded) == 1
    assert queries.encoded[0].spans.sum(dim=1).tolist() == [2, 1]


def test_an_image_whose_scores_are_not_finite_fails(dino: Any) -> None:
    queries = dino.detector.encode(PHRASES)
    weight = dino.model.model.level_embed
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        found = dino.detector.detect(noise_images((64, 64)), queries)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert found.failed == {0: NOT_FINITE}
    assert len(found.score) == 0


def test_no_phrase_at_all_shows_nothing(dino: Any) -> None:
    found = dino.detector.detect(noise_images((64, 64)), dino.detector.encode([]))
    assert len(found.score) == 0


def test_an_image_too_thin_for_the_detector_has_failed_and_the_others_are_searched(dino: Any) -> None:
    queries = dino.detector.encode(["water", "sea"])
    photograph = Image.effect_noise((96, 64), 80).convert("RGB")
    alone = dino.detector.detect([photograph], queries)
    found = dino.detector.detect([Image.new("RGB", (4000, 1)), photograph], queries)
    assert found.failed == {0: "4000 x 1 pixels are too long and thin for the detector"}
    assert found.image.tolist() == [1] * len(alone.image)
    assert found.score.tolist() == alone.score.tolist()
    assert dino.detector.detect([Image.new("RGB", (1, 4000))], queries).failed.keys() == {0}
