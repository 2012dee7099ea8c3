from __future__ import annotations

import pytest
import torch
from torch import Tensor

from despur.birdland.models import as_backbone, new_small
from despur.explain.methods import GRADCAM
from despur.explain.rollout import ROLLOUT
from despur.explain.trust import CHECKS, check_maps


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BACKBONE = as_backbone(new_small("vit", seed=0, image_size=32))
PIXELS, LABELS = drawn(3, 3, 32, 32, seed=1), torch.tensor([0, 1, 0])
PROMPTS = drawn(4, 2, BACKBONE.heads()["text.weight"].shape[-1], seed=2)


def checks(**choices: object) -> dict[str, Tensor]:
    settings = {"method": GRADCAM, "generator": torch.Generator().manual_seed(0), **choices}
    method = settings.pop("method")
    return check_maps(BACKBONE, BACKBONE.heads(), method, PIXELS, LABELS, PROMPTS, **settings)


def test_every_check_has_a_value_an_image_in_its_range():
    found = checks()
    assert tuple(found) == CHECKS
    for name, values in found.items():
        assert values.shape == (3,)
        assert (values.abs() <= 1).all()
        assert name == "agreement" or (values >= 0).all()


def test_gradcam_changes_with_its_head_and_a_map_that_reads_no_head_is_caught():
    assert (checks()["agreement"] < 0.9).all()
    assert checks(method=ROLLOUT)["agreement"].tolist() == pytest.approx([1.0] * 3)


def test_the_batch_size_changes_nothing_and_the_same_draw_gives_the_same_numbers():
    for name, values in checks(batch_size=5).items():
        torch.testing.assert_close(values, checks()[name], atol=1e-5, rtol=0)
