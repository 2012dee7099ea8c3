"""The losses and metrics in loops that are not ours: PyTorch's own modules and optimiser, and Lightning's trainer."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from despur import losses
from despur.metrics import WorstGroupAccuracy


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


def test_a_temperature_may_be_a_number() -> None:
    embedded = F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=-1)
    labels, scale = torch.arange(6) % 2, torch.tensor(14.3, dtype=torch.float64)
    prompts = F.normalize(torch.randn(3, 2, 4), dim=-1)
    assert losses.similarities(embedded, embedded, 14.3).equal(losses.similarities(embedded, embedded, scale))
    for loss in (losses.contrastive_image_loss, losses.spurious_image_loss):
        assert loss(embedded, labels, 14.3) == loss(embedded, labels, scale)
    for loss in (losses.contrastive_language_loss, losses.spurious_language_loss):
        torch.testing.assert_close(loss(prompts, 14.3), loss(prompts, scale.float()))


def test_a_lightning_module_trains_on_our_losses_and_logs_our_metric(tmp_path: Path) -> None:
    """Two features: the class, and a shortcut that agrees with it on nine images of ten."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    shortcut = torch.where(torch.arange(400) % 20 < 18, labels, 1 - labels)
    images = torch.stack([2.0 * labels - 1, 2.0 * shortcut - 1], dim=-1)
    images = images + 0.3 * torch.randn(400, 2, generator=generator)
    data = TensorDataset(images, labels, 2 * labels + shortcut)

    class Repaired(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.image_side = nn.Linear(2, 4)
            self.of_class = nn.Parameter(torch.randn(2, 4))
            self.worst_group = WorstGroupAccuracy(groups=4)

        def embedded(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return F.normalize(self.image_side(images), dim=-1), F.normalize(self.of_class, dim=-1)

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            images, labels, groups = batch
            embedded, of_class = self.embedded(images)
            scale = torch.tensor(10.0)
            loss = losses.clip_loss_of_class_texts(losses.similarities(embedded, of_class, scale), labels)
            return loss + losses.spurious_image_loss(embedded, groups, scale)

        def validation_step(self, batch: list[torch.Tensor]) -> None:
            images, labels, groups = batch
            embedded, of_class = self.embedded(images)
            self.worst_group.update(embedded @ of_class.mT, labels, groups)
            self.log("worst_group", self.worst_group, on_epoch=True)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.05)

    torch.manual_seed(0)
    module = Repaired()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    batches = DataLoader(data, batch_size=50, shuffle=True, generator=generator)
    before = trainer.validate(module, DataLoader(data, batch_size=64), verbose=False)[0]["worst_group"]
    trainer.fit(module, batches, DataLoader(data, batch_size=64))
    after = trainer.callback_metrics["worst_group"].item()
    with torch.no_grad():
        embedded, of_class = module.embedded(images)
    right = (embedded @ of_class.mT).argmax(-1) == labels
    worst = min(right[2 * labels + shortcut == group].float().mean().item() for group in range(4))
    assert after == pytest.approx(worst)
    assert after > max(0.9, before)
