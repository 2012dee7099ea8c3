from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor
from transformers.utils import logging as transformers_logging

from despur.detect import owl as owl_module
from despur.detect.protocol import NOT_FINITE
from despur.errors import ModelError

PHRASES = ["water", "bamboo", "sea", "a tree", "lake", "sky"]


def noise_images(*sizes: tuple[int, int]) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


@contextmanager
def changed(parameter: torch.Tensor, value: float) -> Iterator[None]:
    """A weight's first number set to something for a while."""
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.flatten()[0] = value
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)


def test_scores_phrases_and_boxes_are_transformers_own(owl: Any) -> None:
    images = noise_images((40, 30), (17, 50), (64, 64))
    queries = owl.detector.encode(PHRASES)
    found = owl.detector.detect(images, queries)
    expected = owl.theirs(images, PHRASES, owl.detector.threshold)
    assert 0 < len(found.score) < 3 * 16
    for index, (image, theirs) in enumerate(zip(images, expected, strict=True)):
        ours = found.image == index
        border = torch.tensor([*image.size, *image.size], dtype=torch.float32)
        boxes = theirs["boxes"].clamp(min=0).minimum(border)
        area = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).numpy()
        np.testing.assert_allclose(found.score[ours], theirs["scores"].numpy()[area], atol=1e-4)
        np.testing.assert_array_equal(found.phrase[ours], theirs["labels"].numpy()[area])
        np.testing.assert_allclose(found.box[ours], boxes.numpy()[area], atol=1e-4 * max(image.size))


def test_images_in_one_batch_or_alone_show_the_same(owl: Any) -> None:
    images = noise_images((40, 30), (17, 50))
    queries = owl.detector.encode(PHRASES)
    together = owl.detector.detect(images, queries)
    for index, image in enumerate(images):
        alone = owl.detector.detect([image], queries)
        ours = together.image == index
        np.testing.assert_array_equal(together.phrase[ours], alone.phrase)
        np.testing.assert_allclose(together.score[ours], alone.score, atol=1e-5)
        np.testing.assert_allclose(together.box[ours], alone.box, atol=1e-3)


def test_phrases_taken_in_parts_show_the_same_as_all_at_once(owl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise_images((40, 30))
    queries = owl.detector.encode(PHRASES)
    whole = owl.detector.detect(images, queries)
    monkeypatch.setattr(owl_module, "PHRASES_AT_ONCE", 4)
    parts = owl.detector.detect(images, queries)
    np.testing.assert_array_equal(parts.phrase, whole.phrase)
    np.testing.assert_allclose(parts.score, whole.score, atol=1e-6)


def test_the_text_tower_runs_once_for_any_number_of_images(owl: Any) -> None:
    calls: list[int] = []
    tower = owl.detector._towers.text_model
    handle = tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        queries = owl.detector.encode(PHRASES)
        for _ in range(3):
            owl.detector.detect(noise_images((20, 20)), queries)
    finally:
        handle.remove()
    assert len(calls) == 1


def test_a_phrase_longer_than_the_text_context_is_left_out_and_named(owl: Any) -> None:
    long = "a very long winded name of a thing"
    queries = owl.detector.encode(["water", long])
    assert queries.phrases == ("water",)
    assert queries.removed[0].phrase == long
    assert "longer than the text context" in queries.removed[0].reason


def test_the_tokenizer_does_not_warn_of_what_is_reported(owl: Any) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = transformers_logging.get_logger("transformers")
    logger.addHandler(handler)
    owl.processor.tokenizer.deprecation_warnings.clear()  # it warns once
    try:
        owl.detector.fingerprint()
        owl.detector.encode(["a very long winded name of a thing"])
    finally:
        logger.removeHandler(handler)
    assert heard == []


def test_no_phrase_at_all_shows_nothing(owl: Any) -> None:
    found = owl.detector.detect(noise_images((20, 20)), owl.detector.encode([]))
    assert len(found.score) == 0
    assert found.failed == {}


def test_every_box_lies_inside_its_image_and_has_an_area(owl: Any) -> None:
    images = noise_images((90, 20), (20, 90))
    found = owl.detector.detect(images, owl.detector.encode(PHRASES))
    sizes = np.array([image.size for image in images])[found.image]
    assert (found.box[:, :2] >= 0).all()
    assert (found.box[:, 2:] <= sizes).all()
    assert (found.box[:, 2:] > found.box[:, :2]).all()


def test_an_image_whose_scores_are_not_finite_fails_instead_of_showing_nothing(owl: Any) -> None:
    queries = owl.detector.encode(PHRASES)
    with changed(owl.model.layer_norm.bias, float("nan")):
        found = owl.detector.detect(noise_images((20, 20), (30, 20)), queries)
    assert found.failed == {0: NOT_FINITE, 1: NOT_FINITE}
    assert len(found.image) == 0


def test_an_image_whose_boxes_are_not_finite_fails_too(owl: Any) -> None:
    queries = owl.detector.encode(PHRASES)
    with changed(owl.model.box_head.dense2.bias, float("nan")):
        found = owl.detector.detect(noise_images((20, 20)), queries)
    assert found.failed == {0: NOT_FINITE}


def test_a_text_tower_that_gives_no_numbers_is_an_error_that_names_a_phrase(owl: Any) -> None:
    with (
        changed(owl.detector._towers.text_projection.weight, float("inf")),
        pytest.raises(ModelError, match="no finite numbers for 'water'"),
    ):
        owl.detector.encode(["water"])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", [0, 67, 78, 79, 90])
def test_every_phrase_above_the_threshold_is_seen_at_its_best_place_where_that_is_asked(
    version: int, seed: int, new_owl: Any
) -> None:
    # Among the seeds are models whose best place lies in OWLv2's padding, where nothing can be seen.
    owl = new_owl(version, seed)
    detector = owl_module.OwlDetector(
        owl.model,
        owl.processor.tokenizer,
        owl.processor.image_processor,
        spec="every",
        threshold=0.5,
        phrases_per_box="every",
    )
    images = noise_images((40, 30))
    found = detector.detect(images, detector.encode(PHRASES))
    apart = [owl.detector.detect(images, owl.detector.encode([phrase])) for phrase in PHRASES]
    expected = {phrase: one.score.max() for phrase, one in enumerate(apart) if len(one.score)}
    assert dict(zip(found.phrase.tolist(), found.score, strict=True)) == pytest.approx(expected, abs=1e-5)


def test_the_fingerprint_follows_weights_and_settings_and_nothing_else(owl: Any) -> None:
    again = owl_module.OwlDetector(
        owl.model, owl.processor.tokenizer, owl.processor.image_processor, spec="another name", threshold=0.5
    )
    other = owl_module.OwlDetector(
        owl.model, owl.processor.tokenizer, owl.processor.image_processor, spec="another name", threshold=0.6
    )
    before = owl.detector.fingerprint()
    assert again.fingerprint() == before
    assert other.fingerprint() != before
    with changed(owl.model.layer_norm.bias, 0.5):
        assert again.fingerprint() != before
    assert again.fingerprint() == before


@pytest.mark.slow
def test_the_base_model_at_full_size_sees_what_transformers_sees() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OwlViTForObjectDetection(OwlViTConfig())
    # Drawn as they come, the heads' weights are so large that every box is a point and every score 0, 0.5 or 1.
    with torch.no_grad():
        for weight in (*model.class_head.parameters(), *model.box_head.parameters()):
            weight *= 0.03
    simple = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in simple.encoder.items()}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), pad_token="!")
    tokenizer.model_max_length = 16
    processor = OwlViTProcessor(OwlViTImageProcessor(), tokenizer)
    detector = owl_module.OwlDetector(model, tokenizer, processor.image_processor, spec="base", threshold=0.0)
    images = noise_images((500, 375), (300, 400))
    found = detector.detect(images, detector.encode(PHRASES))
    texts = [detector.template.format(phrase) for phrase in PHRASES]
    with torch.no_grad():
        outputs = model(**processor(text=[texts, texts], images=images, return_tensors="pt"))
    sizes = [(image.height, image.width) for image in images]
    expected = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes)
    for index, (image, theirs) in enumerate(zip(images, expected, strict=True)):
        ours = found.image == index
        border = torch.tensor([*image.size, *image.size], dtype=torch.float32)
        boxes = theirs["boxes"].clamp(min=0).minimum(border)
        assert ours.sum() == 24 * 24
        np.testing.assert_allclose(found.score[ours], theirs["scores"].numpy(), atol=1e-4)
        np.testing.assert_allclose(found.box[ours], boxes.numpy(), atol=1e-4 * max(image.size))
        assert (found.phrase[ours] == theirs["labels"].numpy()).mean() > 0.99
