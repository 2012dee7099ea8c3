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


@pytest.mark.parametrize("change", ["another state", "torn file"])
def test_features_of_another_encoder_or_a_damaged_file_are_not_read(tmp_path: Path, change: str) -> None:
    file = tmp_path / "t.safetensors"
    TextStore(file, "a").features(["owl"], Encoder())
    if change == "torn file":
        file.write_bytes(file.read_bytes()[:-2])
    encoder = Encoder()
    assert TextStore(file, "b" if change == "another state" else "a").features(["owl"], encoder).tolist() == [[3]]
    assert encoder.asked == ["owl"]
