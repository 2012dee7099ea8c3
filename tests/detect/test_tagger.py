from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from despur.backbones.geometry import Framing
from despur.backbones.protocol import LayerOutput
from despur.detect.protocol import NOT_FINITE
from despur.detect.tagger import Tagger, tag_scores
from despur.errors import ModelError

AXES = {"a photo of a red": 0, "a photo of a green": 1, "a photo of a blue": 2, "a photo": 3}


class Colours:
    """A model that sees the mean colour of an image and reads three colour words."""

    spec = "colours"
    framing = Framing(4, 4)
    context_length = 6
    device = torch.device("cpu")

    def fingerprint(self) -> str:
        return "colours"

    def heads(self) -> dict[str, Tensor]:
        return {
            "image.weight": torch.eye(4),
            "text.weight": torch.eye(4),
            "logit_scale": torch.tensor(10.0).log(),
        }

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)

    def image_features(self, pixels: Tensor) -> Tensor:
        colour = pixels.mean(dim=(2, 3))
        return torch.cat([colour, torch.full((len(pixels), 1), 0.5)], dim=1)

    def tokenize(self, texts: list[str]) -> Tensor:
        for text in texts:
            if len(text.split()) > self.context_length:
                raise ModelError(f"the text {text!r} is too long")
        return torch.tensor([[AXES[text]] for text in texts])

    def text_features(self, tokens: Tensor) -> Tensor:
        return torch.eye(4)[tokens[:, 0]]

    def trunk(self, pixels: Tensor) -> LayerOutput:
        raise NotImplementedError

    def finish(self, output: LayerOutput) -> Tensor:
        raise NotImplementedError


def coloured(*colours: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4), colour) for colour in colours]


def test_a_phrase_is_seen_where_it_describes_the_image_better_than_the_neutral_prompt() -> None:
    tagger = Tagger(Colours())
    queries = tagger.encode(["red", "green", "blue"])
    found = tagger.detect(coloured((255, 0, 0), (0, 200, 200), (0, 0, 0)), queries)
    assert [(int(i), queries.phrases[p]) for i, p in zip(found.image, found.phrase, strict=True)] == [
        (0, "red"),
        (1, "green"),
        (1, "blue"),
    ]
    assert np.isnan(found.box).all()


def test_the_score_is_the_softmax_over_phrase_and_neutral_prompt() -> None:
    image, phrase, neutral = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0])
    expected = torch.softmax(20 * torch.tensor([0.6, 0.8]), dim=0)[0]
    torch.testing.assert_close(tag_scores(image, phrase, neutral, 20.0)[0, 0], expected)


def test_kept_features_and_images_are_tagged_the_same() -> None:
    tagger, model = Tagger(Colours()), Colours()
    queries = tagger.encode(["red", "blue"])
    images = coloured((250, 10, 0), (0, 30, 90))
    pixels = torch.stack([model.preprocess(image) for image in images])
    from_features = tagger.tag(model.image_features(pixels).half(), queries)
    from_images = tagger.detect(images, queries)
    np.testing.assert_array_equal(from_features.phrase, from_images.phrase)
    np.testing.assert_allclose(from_features.score, from_images.score, atol=1e-3)


def test_a_phrase_longer_than_the_context_is_left_out_and_named() -> None:
    queries = Tagger(Colours()).encode(["red", "dark red with some more words"])
    assert queries.phrases == ("red",)
    assert "longer than the text context" in queries.removed[0].reason


def test_an_image_whose_features_are_not_finite_fails() -> None:
    tagger = Tagger(Colours())
    features = torch.tensor([[1.0, 0.0, 0.0, 0.5], [float("nan"), 0.0, 0.0, 0.5]])
    found = tagger.tag(features, tagger.encode(["red"]))
    assert found.image.tolist() == [0]
    assert found.failed == {1: NOT_FINITE}


@pytest.mark.parametrize("change", [{"threshold": 0.7}, {"neutral": "a photo of a blue"}])
def test_the_fingerprint_follows_the_settings(change: dict[str, object]) -> None:
    assert Tagger(Colours(), **change).fingerprint() != Tagger(Colours()).fingerprint()  # pyright: ignore
