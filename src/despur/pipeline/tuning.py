"""The stage tune: the same number of settings for every method, the best of them by validation in ``tuning/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from despur.errors import SettingsError
from despur.mitigate.halving import search
from despur.mitigate.methods import Method, find_method
from despur.mitigate.runs import load_run
from despur.mitigate.tuning import MOST_TRIED, draw_settings, search_space
from despur.pipeline.chosen import validation_score
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import MitigateSettings
from despur.pipeline.studying import LazyStudy
from despur.pipeline.training import said_of, settings_of
from despur.workspace import read_json, write_json

TUNING_SEED = 1_000_003
"""Added to a study's seed: settings are chosen by runs that are none of those reported."""


def tune_stage(
    embedded: Embedded, settings: MitigateSettings, count: int, lazy: LazyStudy | None = None
) -> MitigateSettings:
    """Search every method's settings, and return those given with the best ones filled in for each.

    A search that was stopped goes on where it was, with the same outcome; one that is up to date is not done again.

    Args:
        count: settings a method; by successive halving, so that 64 cost 12 runs of all epochs.
        lazy: the settings' study, where the caller reads it too.

    Raises:
        DespurError: an unknown method or setting, a study that a method means nothing on, or no settings to try.
    """
    if not 1 <= count <= MOST_TRIED:
        limits = f"give a number from 1 to {MOST_TRIED}"
        raise SettingsError(f"{count} settings cannot be tried", where="tune", now=limits)
    lazy = lazy or LazyStudy.of(embedded, settings)
    model = embedded.model.spec
    check_searched(settings, model)
    given = settings.by_model.get(model, {})
    methods = {method.name: method for method in map(find_method, settings.methods)}
    others = {name: said for name, said in given.items() if find_method(name).name not in methods}
    # Over what was given for the method: the search began from it.
    tuned = {
        name: {**said_of(method, given), **_tune(embedded, lazy, method, settings, count)}
        for name, method in methods.items()
    }
    return settings.model_copy(update={"by_model": {**settings.by_model, model: {**others, **tuned}}})


def check_searched(settings: MitigateSettings, model: str) -> None:
    """Refuse what is given for a method that is to be tuned and that its search gives; needs no data and no model.

    Raises:
        SettingsError: there is such a setting, or one that is unknown or means nothing.
    """
    for method in map(find_method, settings.methods):
        axes = search_space(method, settings_of(method, settings, model))
        said = (settings.train, said_of(method, settings.by_method), said_of(method, settings.by_model.get(model, {})))
        given = {name for values in said for name in _flat(values)}
        both = sorted(given & axes.keys())
        if both:
            raise SettingsError(
                f"{both[0]} is given, and tune searches it",
                where=f"mitigate, {method.name}",
                now="leave out one of the two",
            )


def _flat(values: Mapping[str, Any]) -> list[str]:
    """Names as a search has them: "learning_rate", "weights.vc"."""
    return [
        place
        for name, value in values.items()
        for place in ([f"{name}.{part}" for part in value] if isinstance(value, Mapping) else [name])
    ]


def _tune(
    embedded: Embedded, lazy: LazyStudy, method: Method, settings: MitigateSettings, count: int
) -> dict[str, Any]:
    """Values of what was searched, by the setting's name."""
    base = settings_of(method, settings, embedded.model.spec)
    file = embedded.workspace.path("tuning", f"{method.name}.json")
    seed = settings.seed + TUNING_SEED

    def work() -> None:
        file.parent.mkdir(exist_ok=True)
        ledger = file.with_name(f".{method.name}.ledger.json")
        drawn = draw_settings(method, base, count, seed=settings.seed)
        found = search(lazy.study, method, drawn, seed=seed, ledger=ledger, progress=embedded.progress)
        axes = {axis.split(".")[0] for axis in search_space(method, base)}
        about = {
            "method": method.name,
            "chosen": found.best.settings.model_dump(mode="json", include=axes),
            "validation_worst_group": found.best.worst_group,
            "validation_average": found.best.average,
            "diverged": sum(trial.diverged_step is not None for trial in found.trials),
            "full_runs": found.full_runs,
            "trials": [trial.model_dump(mode="json") for trial in found.trials],
        }
        write_json(file, about)
        ledger.unlink(missing_ok=True)

    run_stage(
        embedded.workspace,
        f"tune/{method.name}",
        settings={**base.model_dump(mode="json"), "attribute": lazy.grouping.name, "count": count, "seed": seed},
        inputs=lazy.state,
        outputs=[file],
        work=work,
        seed=seed,
        device=embedded.device,
    )
    return read_json(file)["chosen"]


def judged_runs(embedded: Embedded, names: Sequence[str], split: str = "test") -> list[dict[str, Any]]:
    """Mean and deviation of each method's sound runs on a split, as plain values; rates are fractions.

    Args:
        names: of runs.
    """
    runs = {name: load_run(embedded.workspace.path("runs", name)) for name in names}
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(run.method for run in runs.values()):
        own = [run for run in runs.values() if run.method == method]
        sound = [run for run in own if run.diverged_step is None]
        judged = {run.attribute: split_of(embedded, split, run.attribute) for run in sound}
        reports = [accuracy_of(embedded, run.heads, judged[run.attribute])[0] for run in sound]
        rows.append(
            {
                "method": method,
                "seeds": len(own),
                "diverged": len(own) - len(sound),
                "validation_worst_group": _spread([validation_score(run, "worst-group") for run in sound]),
                "validation_average": _spread([validation_score(run, "average") for run in sound]),
                "worst_group": _spread([report.worst_group for report in reports]),
                "average": _spread([report.average for report in reports]),
            }
        )
    return rows


def _spread(values: list[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    return {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else None}
