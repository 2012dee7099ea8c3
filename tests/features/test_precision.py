"""Half precision where a device gains by it; on a CPU bfloat16 stands in for what a GPU does by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import despur
from despur.backbones.protocol import Backbone
from despur.data.waterbirds import load_waterbirds
from despur.errors import SettingsError
from despur.features.batching import EmbedChoices
from despur.features.engine import EmbedSettings
from despur.features.precision import choose_precision, computing_in


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return despur.load_backbone("birdland:vit")


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_gets_the_half_precision_that_it_computes_in(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert choose_precision(torch.device("cuda:1")) == expected
    assert choose_precision(torch.device("cpu")) == "float32"


def test_products_are_computed_in_the_chosen_precision_and_norms_are_not() -> None:
    numbers = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with computing_in("bfloat16", torch.device("cpu")):
        assert (numbers @ numbers.mT).dtype == torch.bfloat16
        assert torch.nn.functional.layer_norm(numbers, (8,)).dtype == torch.float32
    with computing_in("float32", torch.device("cpu")):
        assert (numbers @ numbers.mT).dtype == torch.float32


def test_features_in_half_precision_point_where_those_in_single_do(birds: Path, backbone: Backbone) -> None:
    dataset = load_waterbirds(birds).rows(np.arange(24))
    single = despur.embed(dataset, backbone).images
    half = despur.embed(dataset, backbone, precision="bfloat16").images
    assert half.dtype == single.dtype == torch.float32
    assert not torch.equal(half, single)
    assert torch.nn.functional.cosine_similarity(half, single).min() > 0.995


def test_auto_on_a_cpu_is_single_precision_and_64_images(backbone: Backbone) -> None:
    settled = EmbedChoices(batch_size="auto", precision="auto").settled(backbone)
    assert (settled.batch_size, settled.precision) == (64, "float32")
    assert EmbedChoices(batch_size=3, precision="float16", dtype="float32").settled(backbone) == EmbedSettings(
        batch_size=3, precision="float16", dtype="float32"
    )


def test_what_is_neither_a_precision_nor_a_number_is_refused(birds: Path, backbone: Backbone) -> None:
    with pytest.raises(ValidationError):
        EmbedChoices.model_validate({"precision": "float8"})
    with pytest.raises(SettingsError, match="batch_size"):
        despur.embed(load_waterbirds(birds), backbone, batch_size=0)
