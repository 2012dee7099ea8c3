from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from despur.explain.randomisation import map_agreement, randomised

from .drawn_maps import values


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=4, max_size=4))
def test_agreement_is_spearmans_rank_correlation(pairs: list[tuple[float, float]]):
    first, second = (np.array(side, dtype=np.float32) for side in zip(*pairs, strict=True))
    found = map_agreement(torch.tensor(first).reshape(2, 2), torch.tensor(second).reshape(2, 2)).item()
    constant = [len(set(side.tolist())) == 1 for side in (first, second)]
    expected = float(all(constant)) if any(constant) else spearmanr(first, second).statistic
    assert found == pytest.approx(expected, abs=1e-5)


def test_randomised_heads_keep_their_values_and_the_text_side():
    heads = {
        "adapter.in.weight": torch.arange(6.0).reshape(2, 3),
        "image.weight": torch.arange(12.0).reshape(3, 4),
        "text.weight": torch.eye(3),
        "pool.heads": torch.tensor(2),
        "probe.weight": torch.arange(8.0).reshape(2, 4),
    }
    drawn = randomised(heads, torch.Generator().manual_seed(0))
    for name in ("adapter.in.weight", "image.weight", "probe.weight"):
        assert not torch.equal(drawn[name], heads[name])
        assert torch.equal(drawn[name].flatten().sort().values, heads[name].flatten())
    assert torch.equal(drawn["text.weight"], heads["text.weight"])
    assert torch.equal(drawn["pool.heads"], heads["pool.heads"])
    again = randomised(heads, torch.Generator().manual_seed(0))
    assert torch.equal(again["image.weight"], drawn["image.weight"])
