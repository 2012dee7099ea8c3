from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import BertConfig, BertModel

from despur.detect import load_detector
from despur.errors import ModelError, SettingsError


def test_a_saved_checkpoint_sees_what_the_model_saw(owl: Any, tmp_path: Path) -> None:
    owl.model.save_pretrained(tmp_path)
    owl.processor.save_pretrained(tmp_path)
    loaded = load_detector(f"hf:{tmp_path}", threshold=0.5)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    ours = loaded.detect([image], loaded.encode(["water", "sea"]))
    theirs = owl.detector.detect([image], owl.detector.encode(["water", "sea"]))
    np.testing.assert_allclose(ours.score, theirs.score, atol=1e-6)
    assert loaded.fingerprint() == owl.detector.fingerprint()


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    BertModel(
        BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="it is a bert model"):
        load_detector(f"hf:{tmp_path}")


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be had"):
        load_detector(f"hf:{tmp_path}")


def test_an_unknown_detector_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'owlvit'"):
        load_detector("owl-vit")


def test_what_the_loader_does_not_load_is_not_what_it_says_to_choose() -> None:
    with pytest.raises(SettingsError, match="there is no detector 'column'; choose from owlvit"):
        load_detector("column")


def test_the_tagger_needs_a_model_to_ask() -> None:
    with pytest.raises(SettingsError, match="give it as backbone"):
        load_detector("tagger")
