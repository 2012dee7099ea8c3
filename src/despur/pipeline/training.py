"""The stage mitigate: every method and seed to a folder below ``runs/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from despur.errors import SettingsError, nearest
from despur.mitigate.methods import METHODS, Method, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run, load_run, save_run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.trainer import DivergedError, train
from despur.pipeline.embedded import Embedded
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import MitigateSettings
from despur.pipeline.studying import LazyStudy, make_study
from despur.workspace import Workspace

__all__ = [
    "load_runs",
    "make_study",
    "mitigate_stage",
    "options_by_method",
    "run_name",
    "run_names",
    "settings_of",
]


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


def options_by_method(methods: Sequence[str], options: Mapping[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Options as settings of those methods that have them: ``{"jtt": {"options": {"upweight": 50.0}}}``.

    Raises:
        SettingsError: none of the methods has one of them.
    """
    known = {name: find_method(name).options.keys() & options.keys() for name in methods}
    all_names = sorted({option for name in methods for option in find_method(name).options})
    for option in options:
        if not any(option in own for own in known.values()):
            hint = nearest(option, all_names) if all_names else "they have none"
            raise SettingsError(f"none of the methods has an option {option!r}", where="--option", now=hint)
    return {
        name: {"options": {option: options[option] for option in sorted(own)}} for name, own in known.items() if own
    }


def mitigate_stage(embedded: Embedded, settings: MitigateSettings, lazy: LazyStudy | None = None) -> list[str]:
    """Train every method with every seed, all seeds of a method side by side; returns the names of the runs.

    The pre-trained model is always among them, so that everything has something to be compared with. A run that
    diverged is kept as far as it was sound, and says so.

    Args:
        lazy: the settings' study, where the caller reads it too.

    Raises:
        DespurError: an unknown method or setting, or a study that a method means nothing on.
    """
    lazy = lazy or LazyStudy(embedded, settings.attribute, settings.groups)
    methods = [find_method(name) for name in dict.fromkeys((PRETRAINED.name, *settings.methods))]
    chosen = {method.name: settings_of(method, settings, embedded.model.spec) for method in methods}
    names: list[str] = []
    for method in methods:
        seeds = _seeds(settings) if method.seeded else [settings.seed]
        names += [run_name(method.name, seed) for seed in seeds]
        _train_method(embedded, lazy, method, chosen[method.name], seeds)
    return names


def _seeds(settings: MitigateSettings) -> list[int]:
    return list(range(settings.seed, settings.seed + settings.seeds))


def _train_method(
    embedded: Embedded, lazy: LazyStudy, method: Method, settings: TrainSettings, seeds: list[int]
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
        inputs=lazy.state,
        outputs=[folder / "config.json" for folder in folders],
        work=work,
        seed=seeds[0],
    )
