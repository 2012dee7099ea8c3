"""The losses in a loop that is not ours: a module of PyTorch's, its own optimiser, ten steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from despur import losses


def test_ten_steps_of_a_plain_loop_bring_images_of_a_class_together() -> None:
    torch.manual_seed(0)
    images, groups = torch.randn(16, 8), torch.arange(16) % 4
    prompts = torch.randn(3, 2, 8)  # templates, classes, features
    image_side, text_side, log_scale = nn.Linear(8, 4), nn.Linear(8, 4), nn.Parameter(torch.tensor(2.0))
    trained = [*image_side.parameters(), *text_side.parameters(), log_scale]
    optimiser = torch.optim.Adam(trained, lr=0.05)
    totals: list[float] = []
    for _ in range(10):
        embedded, texts = F.normalize(image_side(images), dim=-1), F.normalize(text_side(prompts), dim=-1)
        scale = log_scale.exp()
        of_class = F.normalize(texts.mean(0), dim=-1)
        total = (
            losses.clip_loss_of_class_texts(losses.similarities(embedded, of_class, scale), groups // 2)
            + losses.contrastive_image_loss(embedded, groups // 2, scale)
            + losses.spurious_image_loss(embedded, groups, scale)
            + losses.contrastive_language_loss(texts, scale)
        )
        optimiser.zero_grad()
        total.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] - 0.5
