"""The stage mitigate: every method and seed to a folder below ``runs/``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from despur.data.examples import Attribute
from despur.mitigate.methods import METHODS, Method, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run, load_run, save_run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.study import Examples, Study
from despur.mitigate.trainer import DivergedError, train
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import MitigateSettings
from despur.workspace import Workspace


def make_study(embedded: EmbeddedImages, attribute: Attribute) -> Study:
    """What training reads, in float32 on the device: features of the training and validation splits, and prompts."""
    dataset = embedded.dataset
    groups = dataset.groups(attribute.name)

    def examples(split: str) -> Examples:
        rows = dataset.split_rows(split)
        return Examples(embedded.rows(rows), torch.from_numpy(dataset.labels[rows]), torch.from_numpy(groups[rows]))

    study = Study(
        train=examples("train"),
        val=examples("val"),
        class_prompts=embedded.class_prompts,
        group_prompts=embedded.group_prompts(attribute),
        phrase_prompts=embedded.prompts(_phrases(attribute)),
        heads=embedded.heads,
        classes=dataset.classes,
        attribute=attribute.name,
    )
    return study.to(embedded.device)


def _phrases(attribute: Attribute) -> list[str]:
    return [phrase for phrase in (attribute.phrase, attribute.absent_phrase) if phrase is not None]


def run_name(method: str, seed: int) -> str:
    """The folder of a run below ``runs/``; the pre-trained model has one run, whatever the seeds are."""
    return method if method == PRETRAINED.name else f"{method}-seed{seed}"


def run_names(workspace: Workspace) -> list[str]:
    """Finished runs in the order of the table of methods, the pre-trained model first; other losses' runs last."""
    known = list(METHODS)

    def place(name: str) -> tuple[int, str, int]:
        method, _, seed = name.rpartition("-seed")
        method = method or name
        return known.index(method) if method in known else len(known), method, int(seed) if method != name else 0

    return sorted((folder.parent.name for folder in workspace.root.glob("runs/*/config.json")), key=place)


def load_runs(workspace: Workspace) -> dict[str, Run]:
    """Every finished run by name."""
    return {name: load_run(workspace.path("runs", name)) for name in run_names(workspace)}


def settings_of(method: Method, settings: MitigateSettings, model: str) -> TrainSettings:
    """The method's own settings, then those for all methods, for this one, and for this one on this model."""
    of_model = settings.by_model.get(model, {}).get(method.name, {})
    chosen = {**settings.train, **settings.by_method.get(method.name, {}), **of_model}
    return TrainSettings.checked(method.settings, **chosen)


def mitigate_stage(embedded: Embedded, settings: MitigateSettings) -> list[str]:
    """Train every method with every seed, all seeds of a method side by side; returns the names of the runs.

    The pre-trained model is always among them, so that everything has something to be compared with. A run that
    diverged is kept as far as it was sound, and says so.

    Raises:
        DespurError: an unknown method or setting, or a study that a method means nothing on.
    """
    attribute = embedded.dataset.attribute(settings.attribute)
    methods = [find_method(name) for name in dict.fromkeys((PRETRAINED.name, *settings.methods))]
    chosen = {method.name: settings_of(method, settings, embedded.model.spec) for method in methods}
    lazy = _LazyStudy(embedded, attribute)
    names: list[str] = []
    for method in methods:
        seeds = [settings.seed] if not method.terms(chosen[method.name]) else _seeds(settings)
        names += [run_name(method.name, seed) for seed in seeds]
        _train_method(embedded, lazy, method, chosen[method.name], seeds)
    return names


def _seeds(settings: MitigateSettings) -> list[int]:
    return list(range(settings.seed, settings.seed + settings.seeds))


@dataclass
class _LazyStudy:
    """The study, read only where some method is not up to date."""

    embedded: Embedded
    attribute: Attribute

    @cached_property
    def study(self) -> Study:
        return make_study(self.embedded, self.attribute)


def _train_method(
    embedded: Embedded, lazy: _LazyStudy, method: Method, settings: TrainSettings, seeds: list[int]
) -> None:
    workspace = embedded.workspace
    folders = [workspace.path("runs", run_name(method.name, seed)) for seed in seeds]
    checkpoint = workspace.path("runs", f".{method.name}.checkpoint")

    def work() -> None:
        checkpoint.parent.mkdir(exist_ok=True)
        stopped: DivergedError | None = None
        try:
            runs = train(lazy.study, method, settings, seeds=seeds, progress=embedded.progress, checkpoint=checkpoint)
        except DivergedError as problem:
            runs, stopped = problem.runs, problem
        for folder, run in zip(folders, runs, strict=True):
            folder.mkdir(exist_ok=True)
            save_run(folder, run)
        checkpoint.unlink(missing_ok=True)
        if stopped is not None and len(seeds) == 1:
            raise stopped  # what was sound of it is kept

    run_stage(
        workspace,
        f"mitigate/{method.name}",
        settings={**settings.model_dump(mode="json"), "attribute": lazy.attribute.name, "seeds": seeds},
        inputs=embedded.state,
        outputs=[folder / "config.json" for folder in folders],
        work=work,
        seed=seeds[0],
    )
