"""The optimiser against torch's own."""

from __future__ import annotations

from math import log

import pytest
import torch

from despur.mitigate import optimiser
from despur.mitigate.optimiser import sgd_step


@pytest.mark.parametrize("together", [False, True])
def test_each_run_moves_as_torch_moves_it_with_its_own_rate_and_decay(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU steps run by run, a GPU with all runs at once."""
    if together:
        monkeypatch.setattr(optimiser, "_step_by_run", optimiser._step_together)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    gradients = torch.randn(6, 3, 4, 5, generator=generator, dtype=torch.float64)
    rates, decays = [1e-2, 1e-1, 1e-3], [0.0, 0.1, 1.0]

    heads, momenta = {"image.weight": start.clone()}, {"image.weight": torch.zeros_like(start)}
    for gradient in gradients:
        sgd_step(
            heads,
            momenta,
            {"image.weight": gradient.mT.contiguous().mT},  # in any layout
            learning_rate=torch.tensor(rates, dtype=torch.float64),
            weight_decay=torch.tensor(decays, dtype=torch.float64),
            momentum=0.9,
        )

    for run, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
        alone = start[run].clone().requires_grad_()
        theirs = torch.optim.SGD([alone], lr=rate, weight_decay=decay, momentum=0.9)
        for gradient in gradients[:, run]:
            alone.grad = gradient.clone()
            theirs.step()
        torch.testing.assert_close(heads["image.weight"][run], alone.detach(), rtol=0, atol=1e-12)


def step(heads: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor | None]) -> None:
    ones = torch.ones(1)
    momenta = {name: torch.zeros_like(head) for name, head in heads.items()}
    sgd_step(heads, momenta, gradients, learning_rate=ones, weight_decay=ones, momentum=0.9)


def test_the_temperature_does_not_decay_and_stops_at_one_hundredth() -> None:
    heads = {"logit_scale": torch.tensor([4.0])}
    step(heads, {"logit_scale": torch.tensor([0.0])})
    assert heads["logit_scale"].item() == 4.0
    step(heads, {"logit_scale": torch.tensor([-100.0])})
    assert heads["logit_scale"].item() == pytest.approx(log(100))


def test_a_head_that_no_loss_reached_stays_as_it_is() -> None:
    heads = {"text.weight": torch.ones(1, 2, 2)}
    step(heads, {"text.weight": None})
    assert torch.equal(heads["text.weight"], torch.ones(1, 2, 2))
