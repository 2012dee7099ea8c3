"""WiSE-FT (Wortsman et al. 2022, CVPR): weights between the pre-trained model's and the fine-tuned one's.

θ = (1 - α) θ_pretrained + α θ_finetuned for every trained tensor, here after ERM; α = 0.5 is what they recommend where
nothing is known. Epochs are chosen by the mixed model's validation accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from despur.backbones.heads import Heads
from despur.mitigate.methods.erm import ERM
from despur.mitigate.methods.method import Method, Option, Start

BLEND = "blend"


def blended(start: Heads, trained: Heads, share: Tensor) -> dict[str, Tensor]:
    """(1 - share) · start + share · trained for every floating-point head.

    Args:
        share: of the trained heads, one a run, in [0, 1].
    """
    return {
        name: start[name].lerp(head, share.view(-1, *(1,) * (head.ndim - 1))) if head.is_floating_point() else head
        for name, head in trained.items()
    }


def _share(start: Start, heads: Heads) -> dict[str, Tensor]:
    return {BLEND: start.study.class_prompts.new_tensor(start.option(BLEND))}


def _blend(start: Heads, heads: Heads, state: Mapping[str, Tensor]) -> Heads:
    return blended(start, heads, state[BLEND])


WISE_FT = Method(
    name="wise-ft",
    title="WiSE-FT",
    terms=ERM.terms,
    options={BLEND: Option(0.5, 0.05, 1.0, logarithmic=False, most=1.0)},
    state=_share,
    shown=_blend,
)
