"""The stage mitigate: every method and seed to a folder below ``runs/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from despur.errors import SettingsError, WorkspaceError, nearest
from despur.mitigate.methods import METHODS, Method, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.objective import check_weights
from despur.mitigate.runs import Run, load_run, save_run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.trainer import DivergedError, train
from despur.pipeline.embedded import EMBED, Embedded, embedded_state
from despur.pipeline.runner import damaged_outputs, run_stage
from despur.pipeline.settings import MitigateSettings
from despur.pipeline.studying import LazyStudy
from despur.pipeline.tracking import Tracking
from despur.workspace import Workspace, read_json

MITIGATE = "mitigate/"
"""What the stage's name in ``workspace.json`` starts with; a method's name follows."""

FEATURES = "features"
"""In a run's ``config.json``: the fingerprint of the embedding that it was trained on."""

HEADS = "heads.safetensors"

RUN_FILES = (HEADS, "history.parquet", "config.json")
"""What a run's folder holds when it is trained."""

METRICS = "metrics.json"
"""In a run's folder: what its heads reach, where they are evaluated."""


def run_name(method: str, seed: int) -> str:
    """The folder of a run below ``runs/``; the pre-trained model has one run, whatever the seeds are."""
    return method if method == PRETRAINED.name else f"{method}-seed{seed}"


def run_names(workspace: Workspace) -> list[str]:
    """Finished runs in the order of the table of methods, the pre-trained model first; other losses' runs last.

    What lies below ``runs/`` from an earlier embedding, or with seeds of an earlier command, is not among them: its
    heads do not fit these features, or its settings are not those of the method's other runs.
    """
    stages = workspace.about()["stages"]
    seeds = {
        name.removeprefix(MITIGATE): sorted(record.settings["seeds"])
        for name, record in stages.items()
        if name.startswith(MITIGATE)
    }
    known = list(METHODS)
    order = sorted(seeds, key=lambda name: (known.index(name) if name in known else len(known), name))
    names = [run_name(method, seed) for method in order for seed in seeds[method]]
    return [name for name in names if EMBED in stages and _is_of(workspace, name, embedded_state(stages))]


def _is_of(workspace: Workspace, name: str, features: str) -> bool:
    """Whether a run is there, and was trained on the features of that fingerprint."""
    file = workspace.path("runs", name, "config.json")
    if not file.exists():
        return False
    config = read_json(file)
    return not isinstance(config, dict) or config.get(FEATURES, features) == features  # what is no run is told later


def load_runs(workspace: Workspace) -> dict[str, Run]:
    """Every finished run by name, the pre-trained model's among them.

    Raises:
        WorkspaceError: there is none, or the pre-trained model's is gone, or files are missing or damaged, or heads are
            not those that were trained.
    """
    names = run_names(workspace)
    if not names:
        raise WorkspaceError(
            "it holds no run on these features",
            where=workspace.root,
            now=f"run: despur mitigate -w {workspace.root} (with --method pretrained to see the model as it came)",
        )
    if PRETRAINED.name not in names:
        raise WorkspaceError(
            "the run of the model as it came, which the others are held against, is gone",
            where=workspace.path("runs", PRETRAINED.name),
            now=f"run: despur mitigate -w {workspace.root} --method {PRETRAINED.name}",
        )
    runs = {name: load_run(workspace.path("runs", name)) for name in names}
    stages = workspace.about()["stages"]
    for name, run in runs.items():
        # Heads of another model would not fit, and others that do fit would be taken for this run's.
        heads = workspace.path("runs", name, HEADS)
        record = stages.get(f"{MITIGATE}{run.method}")
        if record is None or damaged_outputs(workspace, record, [heads]):
            raise WorkspaceError(
                "it is not what was written", where=heads, now=f"run: despur repair -w {workspace.root}"
            )
    return runs


def said_of(method: Method, by_method: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of this method, under whatever name and in whatever order of its losses."""
    mine = [said for name, said in by_method.items() if find_method(name).name == method.name]
    return {key: value for said in mine for key, value in said.items()}


def settings_of(method: Method, settings: MitigateSettings, model: str) -> TrainSettings:
    """The method's own settings, then those for all methods, for this one, and for this one on this model.

    A weight or an option that is given for all methods counts where the method has that loss or option; of one that
    takes no steps, only its options count.

    Raises:
        SettingsError: a setting is unknown or means nothing, or this method has not the loss that a weight is for.
    """
    everywhere = TrainSettings.checked(method.settings, **settings.train)
    terms = method.terms(everywhere)
    weights = {name: weight for name, weight in everywhere.weights.items() if name in terms}
    options = {name: value for name, value in everywhere.options.items() if name in method.options}
    own = {**said_of(method, settings.by_method), **said_of(method, settings.by_model.get(model, {}))}
    shared = everywhere.model_copy(update={"weights": weights, "options": options})
    chosen = TrainSettings.checked(shared, **own)
    check_weights(chosen.weights, terms)
    method.with_options(chosen)  # refused now, and not when other methods are trained
    if not terms:  # it takes no steps, so what steers them is no reason to run it again
        return method.settings.model_copy(update={"options": chosen.options})
    return chosen


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
            raise SettingsError(f"none of the methods has an option {option!r}", where="options", now=hint)
    return {
        name: {"options": {option: options[option] for option in sorted(own)}} for name, own in known.items() if own
    }


def mitigate_stage(embedded: Embedded, settings: MitigateSettings, lazy: LazyStudy | None = None) -> list[str]:
    """Train every method with every seed, all seeds of a method side by side; returns the names of the runs.

    The pre-trained model is always among them, so that everything has something to be compared with. A run that
    diverged is kept as far as it was sound, and says so; a study goes on where another seed or method is sound.

    Args:
        lazy: the settings' study, where the caller reads it too.

    Raises:
        DespurError: an unknown method or setting, or a study that a method means nothing on.
        DivergedError: there is one seed, and with it every method diverged.
    """
    tracking = Tracking(embedded.workspace, settings.track)
    lazy = lazy or LazyStudy.of(embedded, settings)
    chosen = chosen_methods(settings, embedded.model.spec)
    runs: dict[str, Run] = {}
    for method, of_method in chosen:
        seeds = list(range(settings.seed, settings.seed + settings.seeds)) if method.seeded else [settings.seed]
        runs |= _train_method(embedded, lazy, method, of_method, seeds, tracking)
    retrained = [run for run in runs.values() if run.method != PRETRAINED.name]
    if settings.seeds == 1 and retrained and all(run.diverged_step is not None for run in retrained):
        raise DivergedError(retrained)
    return list(runs)


def chosen_methods(settings: MitigateSettings, model: str) -> list[tuple[Method, TrainSettings]]:
    """The methods to train with their settings, the pre-trained model first; needs no data and no model.

    Raises:
        SettingsError: a method, a loss, or a setting of one is unknown or means nothing.
    """
    for name in {*settings.by_method, *(name for methods in settings.by_model.values() for name in methods)}:
        find_method(name)  # a misspelt one would be passed over in silence
    methods = {method.name: method for method in map(find_method, (PRETRAINED.name, *settings.methods))}.values()
    chosen = [(method, settings_of(method, settings, model)) for method in methods]
    terms = {name for method, of_method in chosen for name in method.terms(of_method)}
    check_weights(settings.train.get("weights", {}), terms)
    options_by_method([method.name for method, _ in chosen], settings.train.get("options", {}))
    return chosen


def _train_method(
    embedded: Embedded,
    lazy: LazyStudy,
    method: Method,
    settings: TrainSettings,
    seeds: list[int],
    tracking: Tracking,
) -> dict[str, Run]:
    """Every seed of one method by the name of its run."""
    workspace = embedded.workspace
    folders = [workspace.path("runs", run_name(method.name, seed)) for seed in seeds]
    checkpoint = workspace.path("runs", f".{method.name}.checkpoint")

    def work() -> None:
        checkpoint.parent.mkdir(exist_ok=True)
        try:
            runs = train(
                lazy.study,
                method,
                settings,
                seeds=seeds,
                progress=embedded.progress,
                checkpoint=checkpoint,
                callbacks=tracking.callbacks(folder.name for folder in folders),
            )
        except DivergedError as problem:
            runs = problem.runs  # what was sound of them is kept
        for folder, run in zip(folders, runs, strict=True):
            folder.mkdir(exist_ok=True)
            (folder / METRICS).unlink(missing_ok=True)  # of the heads that go: despur check would go by them
            save_run(folder, run, {FEATURES: embedded.state})
        checkpoint.unlink(missing_ok=True)

    trained = run_stage(
        workspace,
        f"{MITIGATE}{method.name}",
        settings={**settings.model_dump(mode="json"), "attribute": lazy.grouping.name, "seeds": seeds},
        inputs=lazy.state,
        outputs=[folder / file for folder in folders for file in RUN_FILES],
        work=work,
        seed=seeds[0],
        device=embedded.device,
    )
    runs = {folder.name: load_run(folder) for folder in folders}
    tracking.know(runs, watched=trained)
    return runs
