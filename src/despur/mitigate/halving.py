"""Successive halving (Jamieson and Talwalkar 2016): many settings for few epochs, the best of them for more.

A quarter of the settings goes on from rung to rung, each for four times the epochs: 64 settings cost 64/16 + 16/4 + 4
= 12 full runs. A setting starts anew in every rung, so that a rung is known by its settings and epochs alone; a
search that was stopped finds in its ledger what it has done, and ends with the same outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from despur.errors import WorkspaceError
from despur.mitigate.methods.method import Method
from despur.mitigate.runs import Run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Study
from despur.mitigate.trainer import DivergedError, train
from despur.progress import Progress, silent
from despur.workspace import fingerprint, read_json, write_json

FACTOR = 4

STACK_BYTES = 2**29
"""What the heads of the runs that are trained together may take, with their gradients and copies."""

MOST_AT_ONCE = 32

BOUND_BY_PRODUCTS, MOST_WHERE_BOUND = 2**20, 4
"""Bytes of a run's heads from which on a CPU its matrix products take all the time, and how many such runs are trained
at once: more gain nothing there (``stack32_as_tuned_over_products`` of ``benchmarks/mitigate.py``)."""

COPIES = 5
"""Of the heads that training holds: themselves, momenta, gradients, the best epoch's, and a step's own."""


@dataclass(frozen=True)
class Rung:
    """How many settings are tried for how many epochs."""

    settings: int
    epochs: int


def rungs(count: int, epochs: int) -> list[Rung]:
    """The rungs for so many settings; the last has the full epochs, and at least one setting.

    With few epochs two rungs may have as many. The second would find what the first has found, and is left out.
    """
    steps = 0
    while FACTOR ** (steps + 1) <= count:
        steps += 1
    steps = max(1, steps)
    plan = [
        Rung(max(1, count // FACTOR**step), max(1, epochs // FACTOR ** (steps - 1 - step))) for step in range(steps)
    ]
    return [rung for place, rung in enumerate(plan) if place == 0 or rung.epochs > plan[place - 1].epochs]


class Trial(BaseModel):
    """What one setting reached on validation.

    Attributes:
        settings: with the epochs of its rung.
        worst_group, average: of the kept epoch.
        diverged_step: None for a sound run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: TrainSettings
    worst_group: float
    average: float
    diverged_step: int | None

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Larger is better: sound runs first, then by what the settings select by."""
        sound = self.diverged_step is None
        if self.settings.selection == "worst-group":
            return sound, self.worst_group, self.average
        return sound, self.average, self.worst_group


class Ledger:
    """The trials of one search, on disk after every stack.

    Args:
        file: where; None: nowhere.
        key: digest of study, method and seed; a file with another key is another search's and is ignored.
    """

    def __init__(self, file: Path | None, key: str) -> None:
        self.file, self.key = file, key
        self._trials: dict[str, Trial] = {}
        if file is not None and file.exists():
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            held = read_json(file)
            if held["key"] == self.key:
                for entry in held["trials"]:
                    self._hold(Trial.model_validate(entry))
        except (WorkspaceError, ValidationError, KeyError, TypeError):
            return  # what cannot be read is tried again

    def _hold(self, trial: Trial) -> None:
        self._trials[trial.settings.model_dump_json()] = trial

    def find(self, settings: TrainSettings) -> Trial | None:
        """The trial of these settings, if there has been one."""
        return self._trials.get(settings.model_dump_json())

    def add(self, trials: Sequence[Trial]) -> None:
        """Hold trials, and write the file anew."""
        for trial in trials:
            self._hold(trial)
        if self.file is not None:
            trials = list(self._trials.values())
            write_json(self.file, {"key": self.key, "trials": [trial.model_dump(mode="json") for trial in trials]})


@dataclass(frozen=True)
class Searched:
    """The outcome of a search.

    Attributes:
        best: the best trial of the last rung; the earliest of equals.
        trials: every one, rung by rung.
        full_runs: what the search cost, in runs of all epochs.
    """

    best: Trial
    trials: tuple[Trial, ...]
    full_runs: float


def search(
    study: Study,
    method: Method,
    drawn: Sequence[TrainSettings],
    *,
    seed: int,
    ledger: Path | None = None,
    progress: Progress = silent,
) -> Searched:
    """Try settings by successive halving, and return the one that validation likes best.

    Args:
        study: on the device and in the precision to train in.
        drawn: settings that differ in what may differ within a stack.
        seed: of the order of images, the same for every setting.
        ledger: a file to go on from if the search was stopped; delete it when its outcome is kept.

    Raises:
        TrainingError: the method means nothing on this study.
    """
    epochs = drawn[0].epochs
    plan = rungs(len(drawn), epochs) if method.terms(drawn[0]) else [Rung(len(drawn), epochs)]
    known = Ledger(ledger, fingerprint(study.fingerprint(), method.name, seed))
    trials: list[Trial] = []
    alive = [method.with_options(settings) for settings in drawn]
    rung_trials: list[Trial] = []
    for rung in plan:
        chosen = [settings.model_copy(update={"epochs": rung.epochs}) for settings in alive[: rung.settings]]
        rung_trials = _try(study, method, chosen, seed, known, progress)
        trials += rung_trials
        # Sorting is stable: of equals the earlier draw goes first.
        alive = [trial.settings for trial in sorted(rung_trials, key=lambda trial: trial.rank, reverse=True)]
    best = max(rung_trials, key=lambda trial: trial.rank)
    return Searched(best, tuple(trials), sum(trial.settings.epochs for trial in trials) / plan[-1].epochs)


def _try(
    study: Study, method: Method, chosen: Sequence[TrainSettings], seed: int, known: Ledger, progress: Progress
) -> list[Trial]:
    at_once = runs_at_once(study)
    for first in range(0, len(chosen), at_once):
        stack = chosen[first : first + at_once]
        if any(known.find(settings) is None for settings in stack):
            known.add([as_trial(run) for run in _trained(study, method, stack, seed, known.file, progress)])
    return [trial for settings in chosen if (trial := known.find(settings)) is not None]


def _trained(
    study: Study, method: Method, stack: Sequence[TrainSettings], seed: int, ledger: Path | None, progress: Progress
) -> list[Run]:
    checkpoint = None if ledger is None else ledger.with_suffix(".checkpoint")
    try:
        runs = train(study, method, stack, seeds=[seed], progress=progress, checkpoint=checkpoint)
    except DivergedError as problem:
        runs = problem.runs
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return runs


def as_trial(run: Run) -> Trial:
    """What a run's kept epoch reached on validation."""
    row = {name: run.history[name][run.best_epoch].as_py() for name in ("worst_group", "average")}
    return Trial(settings=run.settings, diverged_step=run.diverged_step, **row)


def runs_at_once(study: Study) -> int:
    """Runs that are trained in one stack: as many as gain time, and as the heads' copies leave room for."""
    heads = sum(head.numel() * head.element_size() for head in study.heads.values() if head.is_floating_point())
    bound = study.class_prompts.device.type == "cpu" and heads >= BOUND_BY_PRODUCTS
    most = MOST_WHERE_BOUND if bound else MOST_AT_ONCE
    return max(1, min(most, STACK_BYTES // max(1, COPIES * heads)))
