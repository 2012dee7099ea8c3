"""Text features on disk: every text once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from despur.features.texts import TextStore


class Encoder:
    """Counts letters, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[float(len(text))] for text in texts])


def test_each_text_is_encoded_once_whoever_asks_first(tmp_path: Path) -> None:
    file, encoder = tmp_path / "t.safetensors", Encoder()
    assert TextStore(file, "a").features(["owl", "gull", "owl"], encoder).tolist() == [[3], [4], [3]]
    assert TextStore(file, "a").features(["heron", "gull"], encoder).tolist() == [[5], [4]]
    assert encoder.asked == ["owl", "gull", "heron"]


def test_features_of_another_encoder_are_not_read(tmp_path: Path) -> None:
    file, encoder = tmp_path / "t.safetensors", Encoder()
    TextStore(file, "a").features(["owl"], Encoder())
    assert TextStore(file, "b").features(["owl"], encoder).tolist() == [[3]]
    assert encoder.asked == ["owl"]


def test_a_file_cut_short_or_altered_anywhere_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    TextStore(file, "a").features(["owl", "bird"], Encoder())
    whole = file.read_bytes()
    cut_short = [whole[:end] for end in range(0, len(whole), 17)]
    altered = [whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :] for place in range(0, len(whole), 5)]
    for damaged in [*cut_short, *altered]:
        file.write_bytes(damaged)
        encoder = Encoder()
        assert TextStore(file, "a").features(["owl", "bird"], encoder).tolist() == [[3], [4]]
        assert encoder.asked == ["owl", "bird"]


def test_texts_are_kept_as_they_are_encoded_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("despur.features.texts.AT_ONCE", 2)
    file, texts = tmp_path / "t.safetensors", ["a", "bb", "ccc", "dddd", "eeeee"]

    def stopping(part: list[str]) -> torch.Tensor:
        if "dddd" in part:
            raise KeyboardInterrupt
        return Encoder()(part)

    with pytest.raises(KeyboardInterrupt):
        TextStore(file, "a").features(texts, stopping)
    encoder = Encoder()
    assert TextStore(file, "a").features(texts, encoder).tolist() == [[1], [2], [3], [4], [5]]
    assert encoder.asked == ["ccc", "dddd", "eeeee"]


def test_equal_texts_make_equal_bytes(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        TextStore(file, "a").features(["owl", "bird"], Encoder())
    assert len({file.read_bytes() for file in files}) == 1
