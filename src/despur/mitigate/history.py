"""What is recorded of every epoch: each loss term, each group's validation accuracy, the worst and the average."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from despur.mitigate.study import Study
from despur.mitigate.validation import worst_group


@dataclass
class History:
    """Epochs of a stack of runs, on the CPU. Epoch 0 is the model before training and has no losses.

    Attributes:
        losses: an epoch's means over its steps, the total last.
        rates: each group's accuracy after that epoch, NaN for an empty group.
        averages: the accuracy over all validation images.
    """

    losses: list[Float[Tensor, "terms_and_total runs"]] = field(default_factory=list)
    rates: list[Float[Tensor, "runs groups"]] = field(default_factory=list)
    averages: list[Float[Tensor, "runs"]] = field(default_factory=list)

    def add(self, losses: Tensor, rates: Tensor, averages: Tensor) -> None:
        """One more epoch's mean losses and validation accuracies, brought to the CPU."""
        self.losses.append(losses.cpu())
        self.rates.append(rates.cpu())
        self.averages.append(averages.cpu())

    def table(self, run: int, terms: list[str], study: Study, epochs: range) -> pa.Table:
        """Some epochs of one run: ``epoch``, ``loss``, ``loss/TERM``, ``worst_group``, ``average`` and
        ``accuracy/GROUP``. Losses are null in epoch 0, an empty group's accuracy is null throughout."""
        chosen = slice(epochs.start, epochs.stop)
        losses = torch.stack(self.losses[chosen])[:, :, run].double()
        rates = torch.stack(self.rates[chosen])[:, run].double()
        averages = torch.stack(self.averages[chosen])[:, run].double()

        def column(values: Tensor) -> pa.Array:
            return pa.array(values.numpy(), type=pa.float64(), from_pandas=True)  # NaN becomes null

        columns: dict[str, pa.Array] = {"epoch": pa.array(epochs, type=pa.int32())}
        if terms:
            columns["loss"] = column(losses[:, -1])
        columns |= {f"loss/{name}": column(losses[:, row]) for row, name in enumerate(terms)}
        columns["worst_group"] = column(worst_group(rates))
        columns["average"] = column(averages)
        columns |= {f"accuracy/{study.group_name(group)}": column(rates[:, group]) for group in range(study.groups)}
        return pa.table(columns)
