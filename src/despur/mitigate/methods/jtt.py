"""Just Train Twice (Liu et al. 2021, ICML): train, then train again with what was got wrong drawn more often.

The first model is ERM for a fifth of the epochs (60 of 300 on Waterbirds, their choice); the training images that it
errs on are drawn ``upweight`` times as often as the others by the second, which starts from the pre-trained heads.
No group label is read, except by the selection of settings and epoch on validation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from despur.backbones.heads import Heads
from despur.mitigate.batches import DRAW_WEIGHTS
from despur.mitigate.methods.erm import mean_cross_entropy
from despur.mitigate.methods.method import Method, Option, SecondStage, Start
from despur.mitigate.study import Study
from despur.mitigate.validation import predicted_classes

UPWEIGHT = "upweight"


def _even(start: Start, heads: Heads) -> dict[str, Tensor]:
    dtype, device = start.study.class_prompts.dtype, start.study.class_prompts.device
    return {
        DRAW_WEIGHTS: torch.ones(len(start.study.train), dtype=dtype, device=device),
        UPWEIGHT: torch.tensor(start.option(UPWEIGHT), dtype=dtype, device=device),
    }


def _upweight_errors(study: Study, heads: Heads, state: Mapping[str, Tensor]) -> None:
    wrong = predicted_classes(heads, study.train.features, study.class_prompts) != study.train.labels
    state[DRAW_WEIGHTS].copy_(torch.where(wrong, state[UPWEIGHT].unsqueeze(-1), 1.0))


JTT = Method(
    name="jtt",
    title="JTT",
    terms=lambda settings: {"cross_entropy": mean_cross_entropy},
    options={UPWEIGHT: Option(100.0, 2.0, 200.0)},
    state=_even,
    second=SecondStage(share=0.2, look=_upweight_errors),
)
"""``upweight`` is theirs for Waterbirds. Their code copies the errors into the training set as many times, which makes
an epoch longer; drawing in proportion has the same expected gradient and keeps every method's epochs alike."""
