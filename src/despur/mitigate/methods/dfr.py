"""Deep feature reweighting (Kirichenko, Izmailov and Wilson 2023, ICLR): a last layer on group-balanced images.

L1-regularised logistic regression on standardised features, on as many images of every group as the smallest has. Its
C is one of seven, the one with the best worst group on images held out; the classifier is then the mean of several,
each on a balanced subset of its own. ``dfr`` draws from the validation split (their DFR with validation data: 20
fits, C on a half that is held out), ``dfr-train`` from the training split (10 fits, C on validation).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from despur.errors import TrainingError
from despur.metrics import group_rates
from despur.mitigate.logistic import fit_logistic, fold_standardisation
from despur.mitigate.methods.method import Method, Start, no_terms, nothing
from despur.mitigate.methods.probe import with_probe
from despur.mitigate.methods.requirements import finite_vectors, needs_every_group, needs_one_attribute
from despur.mitigate.study import Examples, Study
from despur.mitigate.validation import worst_group

C_GRID = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
"""Weight of the sum of losses against the L1 norm; the larger wins a tie, as in their code."""

VALIDATION_FITS, TRAINING_FITS = 20, 10

TOLERANCE = 1e-4
"""As liblinear's own default."""

AT_ONCE = 2**27
"""Numbers in the features of the fits that are solved together: half a GiB in float32."""


@dataclass(frozen=True)
class _Scale:
    """Standardisation by the training features.

    Attributes:
        mean, deviation: of each feature; what does not vary has deviation 1.
        method: whose it is, for messages.
    """

    mean: Float[Tensor, "d"]
    deviation: Float[Tensor, "d"]
    method: str

    @classmethod
    def of(cls, study: Study, method: str) -> _Scale:
        deviation, mean = torch.std_mean(finite_vectors(study, method), dim=0, correction=0)
        return cls(mean, torch.where(deviation > 0, deviation, 1.0), method)

    def __call__(self, examples: Examples) -> Float[Tensor, "images d"]:
        return (examples.whole(self.method) - self.mean) / self.deviation


def balanced_rows(groups: Int[Tensor, "images"], generator: torch.Generator) -> Int[Tensor, "balanced"]:
    """Indices of as many images of each group that is there as the smallest has, drawn without replacement."""
    here = groups.cpu()
    order = torch.randperm(len(here), generator=generator)
    own = [order[here[order] == group] for group in here.unique().tolist()]
    fewest = min(len(rows) for rows in own)
    return torch.cat([rows[:fewest] for rows in own]).to(groups.device)


def _fit(
    features: Float[Tensor, "images d"],
    labels: Int[Tensor, "images"],
    subsets: Int[Tensor, "fits balanced"],
    classes: int,
    strengths: Float[Tensor, "fits"],
) -> tuple[Float[Tensor, "fits classes d"], Float[Tensor, "fits classes"]]:
    """A fit a subset, with C ``strengths``; as many at once as memory allows."""
    at_once = max(1, AT_ONCE // (subsets.shape[1] * features.shape[1]))
    solved = [
        fit_logistic(features[own], labels[own], classes, l1=1 / (strength * subsets.shape[1]), tolerance=TOLERANCE)
        for own, strength in zip(subsets.split(at_once), strengths.split(at_once), strict=True)
    ]
    return torch.cat([weight for weight, _ in solved]), torch.cat([bias for _, bias in solved])


def choose_strength(
    study: Study,
    fitted: Examples,
    rows: Int[Tensor, "balanced"],
    held_out: Examples,
    scale: _Scale,
) -> float:
    """The C of ``C_GRID`` whose fit on the rows has the best worst group on the held-out images."""
    scaled, judged = scale(fitted), scale(held_out)
    strengths = scaled.new_tensor(C_GRID)
    weight, bias = _fit(scaled, fitted.labels, rows.expand(len(C_GRID), -1), len(study.classes), strengths)
    correct = (judged @ weight.mT + bias.unsqueeze(-2)).argmax(-1) == held_out.labels
    return C_GRID[int(worst_group(group_rates(correct, held_out.groups, study.groups)).argmax())]


def _taken(examples: Examples, rows: Int[Tensor, "rows"]) -> Examples:
    return Examples(examples.take(rows), examples.labels[rows], examples.groups[rows])


def _solve(start: Start, fitted: Examples, fits: int, strength: float, scale: _Scale) -> dict[str, Tensor]:
    subsets = torch.stack([balanced_rows(fitted.groups, start.generator) for _ in range(fits)])
    scaled = scale(fitted)
    strengths = scaled.new_full((fits,), strength)
    weight, bias = _fit(scaled, fitted.labels, subsets, len(start.study.classes), strengths)
    return with_probe(start.study, *fold_standardisation(weight.mean(0), bias.mean(0), scale.mean, scale.deviation))


def _on_validation(start: Start) -> dict[str, Tensor]:
    study = start.study
    scale = _Scale.of(study, "dfr")
    order = torch.randperm(len(study.val), generator=start.generator).to(study.val.labels.device)
    half = len(order) // 2
    judged, fitted = _taken(study.val, order[:half]), _taken(study.val, order[half:])
    rows = balanced_rows(fitted.groups, start.generator)
    strength = choose_strength(study, fitted, rows, judged, scale)
    return _solve(start, study.val, VALIDATION_FITS, strength, scale)


def _on_training(start: Start) -> dict[str, Tensor]:
    study = start.study
    scale = _Scale.of(study, "dfr-train")
    rows = balanced_rows(study.train.groups, start.generator)
    strength = choose_strength(study, study.train, rows, study.val, scale)
    return _solve(start, study.train, TRAINING_FITS, strength, scale)


def _needs_validation_groups(study: Study) -> None:
    """Two images of every group, so that a half can be held out.

    Raises:
        TrainingError: a group has fewer.
    """
    needs_one_attribute(study, "dfr")
    few = torch.nonzero(torch.bincount(study.val.groups, minlength=study.groups) < 2).flatten().tolist()
    if few:
        names = ", ".join(study.group_name(group) for group in few)
        raise TrainingError(
            f"fewer than two validation images show {names}",
            where="the validation split",
            now="add such images, or choose dfr-train",
        )


def _needs_training_groups(study: Study) -> None:
    needs_one_attribute(study, "dfr-train")
    needs_every_group(study)


DFR = Method(
    name="dfr",
    title="DFR",
    terms=no_terms,
    heads=_on_validation,
    trained=nothing,
    check=_needs_validation_groups,
    note="given the group labels; fitted to the validation split",
    fits_validation=True,
)

DFR_TRAIN = Method(
    name="dfr-train",
    title="DFR on training images",
    terms=no_terms,
    heads=_on_training,
    trained=nothing,
    check=_needs_training_groups,
    note="given the group labels",
)
