"""Retrains the heads of a stack of runs: seeds, learning rates, weight decays and term weights side by side.

Features, prompts and masks are on the device before the first step; within an epoch nothing comes back to the host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.errors import SettingsError, TrainingError
from despur.features.streamed import StreamedFeatures
from despur.mitigate.batch import Batch
from despur.mitigate.batches import DRAW_WEIGHTS, MEMBERS, Batches, Epoch
from despur.mitigate.callback import Callback, described, tell
from despur.mitigate.checkpoint import Checkpoint, TrainingState
from despur.mitigate.methods.method import Method, Start
from despur.mitigate.objective import Objective, make_objective
from despur.mitigate.optimiser import sgd_step
from despur.mitigate.runs import Run
from despur.mitigate.scratch import Scratch
from despur.mitigate.settings import STACKED, TrainSettings
from despur.mitigate.span import SPANNED, PromptSpan, span_of
from despur.mitigate.study import Study
from despur.mitigate.validation import validation_accuracies, worst_group
from despur.progress import Progress, silent
from despur.workspace import fingerprint, said_bytes

AT_MOST = 65_536
"""Images that are proposed to be shuffled together, where even more would fit."""


class DivergedError(TrainingError):
    """Every run of a stack met a number that is not finite.

    Attributes:
        runs: what is left of them: the heads of the last sound best epoch.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        first = min(runs, key=lambda run: run.diverged_step or 0)
        kept = f"epoch {first.best_epoch} was" if first.best_epoch else "the pre-trained heads were"
        super().__init__(
            f"the loss or the heads are not finite from step {first.diverged_step} on; {kept} kept",
            where=f"{first.method}, seed {first.seed}",
            now=f"lower the learning rate ({first.settings.learning_rate:g})",
        )


def train(
    study: Study,
    method: Method,
    settings: TrainSettings | Sequence[TrainSettings] | None = None,
    *,
    seeds: Sequence[int] = (0,),
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 5.0,
    callbacks: Sequence[Callback] = (),
) -> list[Run]:
    """Train every setting with every seed, all in one stack, and keep each run's best epoch on validation.

    Args:
        study: on the device and in the precision to train in.
        settings: one, or several that differ in nothing but ``weights``, ``options``, ``learning_rate`` and
            ``weight_decay``; None: the method's own.
        seeds: of the order of images.
        checkpoint: a file to go on from if training was stopped. It is kept at the end, so that what follows can be
            stopped too; delete it when the runs are saved.
        checkpoint_seconds: the least time between two writes of it.
        callbacks: one a run, in the order of what is returned, told of each epoch as it ends; none: nobody looks on.

    Returns:
        One run a setting and seed, the seeds of the first setting first. A tie between epochs goes to the earliest.

    Raises:
        SettingsError: no seed or no settings, settings that cannot share a stack, or a weight for a term that the
            method has not.
        ValueError: there are callbacks, but not one a run.
        TrainingError: the method means nothing on this study.
        DivergedError: no run stayed finite. Where some did, the others say so in ``diverged_step``.
    """
    several = [method.settings] if settings is None else [settings] if isinstance(settings, TrainSettings) else settings
    if not several or not seeds:
        what = "seed" if several else "setting"
        raise SettingsError(f"no {what} is given", where="training", now="give at least one")
    several = [method.with_options(entry) for entry in several]
    common = _common(several)
    terms = method.terms(common)
    _check_study(study, trains=bool(terms))
    method.check(study)
    if terms:
        _check_window(study, common, len(several) * len(seeds))
    of_run = [(entry, seed) for entry in several for seed in seeds]
    if callbacks and len(callbacks) != len(of_run):
        raise ValueError(f"there are {len(callbacks)} callbacks for {len(of_run)} runs; give one a run, or none")
    objective = make_objective(terms, [entry for entry, _ in of_run], study.class_prompts)
    stack = _Stack(study, method, common, objective, of_run)
    key = "" if checkpoint is None else _key(study, method, of_run)
    saved = Checkpoint(checkpoint, key, checkpoint_seconds)
    saved.restore(stack.state)
    for callback, (entry, seed) in zip(callbacks, of_run, strict=False):
        callback.start(described(method.name, study.attribute, seed, entry))
    runs: list[Run] = []
    try:
        stack.fit(progress, saved, callbacks)
        runs = stack.runs()
    finally:
        for index, callback in enumerate(callbacks):
            callback.finish(runs[index].best_epoch if runs else None)
    if all(run.diverged_step is not None for run in runs):
        raise DivergedError(runs)
    return runs


def _check_study(study: Study, *, trains: bool) -> None:
    """Refuse what no method means anything on, and what would end in numbers that say nothing.

    Args:
        trains: whether images are trained on; a method that only changes prompts may go without.

    Raises:
        TrainingError: there is no training or validation image, or the features of a prompt are not finite, or images
            are trained on and all are of one class.
    """
    for split, examples in (("training", study.train), ("validation", study.val)):
        if not len(examples):
            raise TrainingError(
                f"there are no {split} images", where=f"the {split} split", now="put some images into that split"
            )
    if trains and bool((study.train.labels == study.train.labels[0]).all()):
        raise TrainingError(
            f"all training images show {study.classes[int(study.train.labels[0])]}",
            where="the training split",
            now="add images of another class",
        )
    prompts = {"class": study.class_prompts, "group": study.group_prompts, "phrase": study.phrase_prompts}
    for name, features in prompts.items():
        if features is not None and not bool(features.isfinite().all()):
            raise TrainingError(
                f"the features of {name} prompts are not finite",
                where="the text encoder",
                now="look at the model's weights, or embed in float32",
            )


def _check_window(study: Study, settings: TrainSettings, runs: int) -> None:
    """Refuse to read images from disk in an order in which each would be read again for every batch.

    Raises:
        SettingsError: the features are larger than memory, and images are drawn from further apart than fits.
    """
    features = study.train.features
    if not isinstance(features, StreamedFeatures):
        return
    fits = features.memory // (features.row_bytes * runs)
    if settings.shuffle_within is None or settings.shuffle_within > fits:
        asked = "all images are" if settings.shuffle_within is None else f"{settings.shuffle_within:,} images are"
        raise SettingsError(
            f"{asked} shuffled together, and {said_bytes(features.memory)} hold {fits:,} of them for each run",
            where="training",
            now=f"raise --memory, or give --shuffle-within {min(fits, AT_MOST)} or less",
        )


def _common(several: Sequence[TrainSettings]) -> TrainSettings:
    """What all runs of a stack share, which must be all but ``STACKED``."""
    shared = [entry.model_dump(exclude=set(STACKED)) for entry in several]
    for name, value in shared[0].items():
        if any(other[name] != value for other in shared):
            raise SettingsError(
                f"runs that are trained together must agree in {name}", where="training", now="train them one by one"
            )
    return several[0]


def _key(study: Study, method: Method, of_run: Sequence[tuple[TrainSettings, int]]) -> str:
    return fingerprint(method.name, study.fingerprint(), [[entry.model_dump(), seed] for entry, seed in of_run])


def _stacked(of_run: Sequence[Heads]) -> dict[str, Tensor]:
    """Heads of several runs with a leading runs dimension, without a copy where they are one and the same tensor.

    A count (``pool.heads``) stays as it is, where no device must be asked.
    """
    stacked: dict[str, Tensor] = {}
    for name, head in of_run[0].items():
        if not head.is_floating_point():
            stacked[name] = head.cpu()
        elif all(heads[name] is head for heads in of_run):
            stacked[name] = head.expand(len(of_run), *head.shape)
        else:
            stacked[name] = torch.stack([heads[name] for heads in of_run])
    return stacked


class _Stack:
    """Runs in training: what stays the same, beside the :class:`TrainingState` that does not."""

    def __init__(
        self,
        study: Study,
        method: Method,
        settings: TrainSettings,
        objective: Objective,
        of_run: Sequence[tuple[TrainSettings, int]],
    ) -> None:
        self.study, self.method, self.settings, self.objective, self.of_run = study, method, settings, objective, of_run
        runs, like = len(of_run), study.class_prompts
        generators = [torch.Generator().manual_seed(seed) for _, seed in of_run]
        starts = [Start(study, entry, generator) for (entry, _), generator in zip(of_run, generators, strict=True)]
        with torch.no_grad():
            start_of_run = [method.heads(start) for start in starts]
            state_of_run = [method.state(start, own) for start, own in zip(starts, start_of_run, strict=True)]
        kept = {name: torch.stack([state[name] for state in state_of_run]) for name in state_of_run[0]}
        self.start = _stacked(start_of_run)
        trained = method.trained(self.start, settings)
        self.scratch = Scratch()
        self.span = self._span(kept) if "text.weight" in trained else None
        self.begin = self.start if self.span is None else self.span.begin(self.start)
        trained = [name for name in trained if name in self.begin] + [name for name in self.begin if name in SPANNED]
        heads = {name: self.begin[name].clone().requires_grad_() for name in trained}
        self.heads = {**self.begin, **heads}
        self.first_epochs = 0 if method.second is None else method.second.first_epochs(settings.epochs)
        self.learning_rate = like.new_tensor([entry.learning_rate for entry, _ in of_run])
        self.weight_decay = like.new_tensor([entry.weight_decay for entry, _ in of_run])
        self.batches = Batches(
            study.train.labels,
            study.train.groups,
            batch_size=settings.batch_size,
            templates=study.class_prompts.shape[0],
            sampler=method.sampler,
            generators=generators,
            members=kept.pop(MEMBERS, None),
            within=settings.shuffle_within,
            shares=study.train.shares,
        )
        counts = torch.zeros(runs, dtype=torch.int64, device=like.device)
        self.state = TrainingState(
            heads=heads,
            momenta={name: torch.zeros_like(head, requires_grad=False) for name, head in heads.items()},
            kept=kept,
            best={name: head.detach().clone() for name, head in heads.items()},
            best_epoch=counts.clone(),
            best_score=torch.full_like(counts, -torch.inf, dtype=torch.float32),
            diverged_step=counts.clone(),
            sound_epochs=counts.clone(),
            generators=generators,
        )

    def _span(self, kept: Mapping[str, Tensor]) -> PromptSpan | None:
        """The prompts that the terms read, found by letting them look at two images once."""
        rows = torch.arange(min(2, len(self.study.train)), device=self.study.train.labels.device)
        rows = rows.expand(len(self.of_run), -1)
        batch = Batch(
            self.study,
            self.settings,
            self.start,
            rows=rows,
            labels=self.study.train.labels[rows],
            groups=self.study.train.groups[rows],
            templates=torch.zeros_like(rows),
            state={name: value.clone() for name, value in kept.items()},
        )
        with torch.no_grad():
            self.objective.values(batch)
        return span_of(self.study, self.start, batch.prompts_read)

    def _tell(self, callbacks: Sequence[Callback], *, since: int) -> None:
        """Tell each callback the epochs from ``since`` on, as far as its run is sound."""
        sound = self.state.sound_epochs.tolist() if callbacks else []  # only who looks on makes the device wait
        for index, (callback, last) in enumerate(zip(callbacks, sound, strict=True)):
            if last >= since:
                tell(callback, self._history(index, range(since, last + 1)))

    def _history(self, index: int, epochs: range) -> pa.Table:
        return self.state.history.table(index, list(self.objective.terms), self.study, epochs)

    def _whole(self, heads: Heads) -> Heads:
        return heads if self.span is None else self.span.whole(heads)

    def fit(self, progress: Progress, checkpoint: Checkpoint, callbacks: Sequence[Callback]) -> None:
        """Train the epochs that are left, validate after each, and tell the callbacks."""
        state = self.state
        if not state.history.rates:
            nothing = torch.full((len(self.objective.terms) + 1, len(self.of_run)), torch.nan)
            state.history.add(nothing, *self._validate())
        self._tell(callbacks, since=0)
        last = self.first_epochs + self.settings.epochs if self.objective.terms else 0
        left = range(state.epoch + 1, last + 1)
        if not left or not bool(state.sound.any()):
            return
        for _ in progress(left, total=len(left), label=f"training {self.method.name}", unit="epochs"):
            started = time.perf_counter()
            losses = self._train_epoch(self.batches.epoch(state.kept.get(DRAW_WEIGHTS)))
            rates, averages = self._validate()
            state.epoch += 1
            self._mark_diverged(losses)
            state.history.add(losses.mean(0), rates, averages)
            self._keep_best(rates, averages)
            if state.epoch == self.first_epochs:
                self._begin_again()
            state.seconds += time.perf_counter() - started
            self._tell(callbacks, since=state.epoch)
            finished = state.epoch == last or not bool(state.sound.any())
            checkpoint.save(state, last=finished)
            if finished:
                break

    def _train_epoch(self, epoch: Epoch) -> Float[Tensor, "steps terms_and_total runs"]:
        """Every step of an epoch; returns each step's terms and their weighted sum, not yet looked at."""
        state, objective = self.state, self.objective
        names, leaves = list(state.heads), list(state.heads.values())
        record = self.learning_rate.new_empty(len(epoch), len(objective.terms) + 1, len(self.of_run))
        for step in range(len(epoch)):
            batch = Batch(
                self.study,
                self.settings,
                self.heads,
                rows=epoch.rows[step],
                labels=epoch.labels[step],
                groups=epoch.groups[step],
                templates=epoch.templates[step],
                state=state.kept,
                scratch=self.scratch,
                span=self.span,
            )
            values = objective.values(batch)
            total = objective.total(values)
            found = torch.autograd.grad(total.sum(), leaves, allow_unused=True)
            with torch.no_grad():
                record[step, :-1] = values
                record[step, -1] = total
                sgd_step(
                    state.heads,
                    state.momenta,
                    dict(zip(names, found, strict=True)),
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    momentum=self.settings.momentum,
                )
        return record

    @torch.no_grad()
    def _validate(self) -> tuple[Float[Tensor, "runs groups"], Float[Tensor, "runs"]]:
        return validation_accuracies(self._shown(self.heads), self.study, self.study.val)

    def _shown(self, heads: Heads) -> Heads:
        """The heads that classify, with every projection in its place."""
        return self.method.shown(self.start, self._whole(heads), self.state.kept)

    @torch.no_grad()
    def _begin_again(self) -> None:
        """End the first stage: let the method look at it, and go back to where the run started."""
        state = self.state
        if self.method.second is not None:
            self.method.second.look(self.study, self._whole(self.heads), state.kept)
        for name, head in state.heads.items():
            head.copy_(self.begin[name])
            state.best[name].copy_(self.begin[name])
            state.momenta[name].zero_()
        state.best_score.fill_(-torch.inf)
        state.best_epoch.zero_()

    @torch.no_grad()
    def _mark_diverged(self, losses: Float[Tensor, "steps terms_and_total runs"]) -> None:
        """Note the first step of this epoch that was not finite; the last one where only the heads are not."""
        state, steps = self.state, losses.shape[0]
        bad = ~losses[:, -1].isfinite()
        first = torch.where(bad.any(0), bad.int().argmax(0), steps - 1)
        heads_sound = torch.stack(
            [head.flatten().unflatten(0, (len(self.of_run), -1)).sum(1).isfinite() for head in state.heads.values()]
        ).all(0)
        now = state.sound & (bad.any(0) | ~heads_sound)
        step = (state.epoch - 1) * steps + first + 1
        state.diverged_step.copy_(torch.where(now, step, state.diverged_step))
        state.sound_epochs.add_(state.sound)

    @torch.no_grad()
    def _keep_best(self, rates: Float[Tensor, "runs groups"], averages: Float[Tensor, "runs"]) -> None:
        """Copy the heads of the runs whose selected accuracy is higher than ever before."""
        state = self.state
        score = worst_group(rates) if self.settings.selection == "worst-group" else averages
        better = state.sound & (score > state.best_score)
        state.best_score.copy_(torch.where(better, score, state.best_score))
        state.best_epoch.masked_fill_(better, state.epoch)
        for name, head in state.heads.items():
            chosen = better.view(-1, *(1,) * (head.ndim - 1))
            torch.where(chosen, head.detach(), state.best[name], out=state.best[name])

    def runs(self) -> list[Run]:
        """Every run as it ended."""
        state = self.state
        with torch.no_grad():
            heads = self._shown({**self.heads, **state.best})
        best_epochs, steps, sound = (t.tolist() for t in (state.best_epoch, state.diverged_step, state.sound_epochs))
        return [
            Run(
                method=self.method.name,
                attribute=self.study.attribute,
                seed=seed,
                settings=settings,
                heads={
                    name: (head[index] if head.is_floating_point() else head).detach().cpu().clone()
                    for name, head in heads.items()
                },
                best_epoch=best_epochs[index],
                history=self._history(index, range(sound[index] + 1)),
                diverged_step=steps[index] or None,
                seconds=state.seconds / len(self.of_run),
            )
            for index, (settings, seed) in enumerate(self.of_run)
        ]
