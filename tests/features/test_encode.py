"""Running the encoders: order, what cannot be read, and prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from despur.errors import ModelError
from despur.features.encode import cut, encode_images, encode_prompts, encode_texts

Photographs = Callable[[int], list[Path]]


def test_a_batch_that_the_device_does_not_hold_is_told_in_a_sentence(
    colour: Any, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    backbone = colour()
    monkeypatch.setattr(backbone, "image_features", full)
    with pytest.raises(ModelError, match="colour: the device's memory does not hold 3 images at once; give a smaller"):
        list(encode_images(photographs(5), backbone, batch_size=3))


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 20))
def test_batches_cover_every_row_once_and_cross_no_block(count: int, batch_size: int, block: int) -> None:
    batches = cut(count, batch_size, block)
    assert [row for batch in batches for row in batch] == list(range(count))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert all(batch[0] // block == batch[-1] // block for batch in batches)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (4, 3), (100, 1)])
def test_every_image_is_encoded_once_and_in_order(
    colour: Any, photographs: Photographs, batch_size: int, workers: int
) -> None:
    backbone = colour()
    batches = list(encode_images(photographs(10), backbone, batch_size=batch_size, workers=workers))
    assert [row for batch in batches for row in batch.rows] == list(range(10))
    features = torch.cat([batch.features for batch in batches])
    expected = torch.tensor([[number / 255, 0.2, 0.4] for number in range(10)])
    torch.testing.assert_close(features, expected)
    assert max(backbone.batches) <= batch_size


def test_an_image_that_cannot_be_read_is_named_with_its_reason_and_the_others_are_encoded(
    colour: Any, photographs: Photographs
) -> None:
    paths = photographs(6)
    paths[1].write_bytes(b"")
    paths[4].write_text("a text file")
    paths[5].unlink()
    backbone = colour()
    batches = list(encode_images(paths, backbone, batch_size=2))
    assert [batch.rows for batch in batches] == [[0], [2, 3], []]
    assert [batch.unreadable for batch in batches] == [
        [(1, "it is empty (zero bytes)")],
        [],
        [(4, "its content is not an image"), (5, "there is no such file")],
    ]
    assert backbone.batches == [1, 2], "the encoder never sees an empty batch"


def test_progress_counts_images(colour: Any, photographs: Photographs) -> None:
    seen: list[object] = []

    def watch(steps: Iterable[Any], *, total: int, label: str, unit: str = "", each: int = 1) -> Iterator[Any]:
        for step in steps:
            seen.append((total, unit, each))
            yield step

    list(encode_images(photographs(5), colour(), batch_size=2, progress=watch))  # type: ignore[arg-type]
    assert seen == [(5, "images", 2)] * 3


def test_stopping_early_encodes_no_further(colour: Any, photographs: Photographs) -> None:
    backbone = colour()
    batches = encode_images(photographs(20), backbone, batch_size=1, workers=1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert backbone.batches == [1]


def test_an_error_that_is_no_images_fault_is_not_swallowed(colour: Any, photographs: Photographs) -> None:
    backbone = colour()
    backbone.preprocess = None
    with pytest.raises(TypeError):
        list(encode_images(photographs(2), backbone))


def test_prompts_are_laid_out_by_template_and_phrase(colour: Any) -> None:
    features = encode_prompts(colour(), ["a {}", "the big {}"], ["owl", "gull", "sea bird"])
    assert features.tolist() == [[[5, 2], [6, 2], [10, 3]], [[11, 3], [12, 3], [16, 4]]]


def test_texts_are_encoded_in_batches_and_kept_in_order(colour: Any) -> None:
    assert encode_texts(colour(), ["owl", "a gull", "bird"], batch_size=2).tolist() == [[3, 1], [6, 2], [4, 1]]


def test_a_text_that_does_not_fit_is_an_error(colour: Any) -> None:
    with pytest.raises(ModelError, match="too long"):
        encode_texts(colour(), ["bird " * 20])
