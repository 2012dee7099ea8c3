"""Thresholds that a release pipeline holds a run to, from its ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import torch
from pydantic import BaseModel, ConfigDict, Field

from despur.errors import SettingsError, WorkspaceError
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.pipeline.chosen import chosen_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import check_evaluated
from despur.pipeline.runner import damaged_outputs
from despur.pipeline.training import load_runs, run_name
from despur.workspace import Workspace, read_object, write_whole

ROUNDING = 1e-9
"""What a value may miss its limit by: sums and differences of fractions are not exact."""

Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(BaseModel):
    """What is asked of a run; None is not asked. All are fractions.

    Attributes:
        min_worst_group: accuracy of the worst group.
        min_average: accuracy over all images.
        max_gap: average minus worst group.
        min_aiou: mean AIoU over images.
        min_aiou_worst_group: the same over the worst group.
        min_retained: accuracy over that of the model as it came: on classes that were not repaired where these were
            measured (``evaluate --retain``), else the average on those that were; not measured where the others were
            asked and the run names none of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_worst_group: Share | None = None
    min_average: Share | None = None
    max_gap: Share | None = None
    min_aiou: Share | None = None
    min_aiou_worst_group: Share | None = None
    min_retained: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


NEEDED = ("accuracy", "split")
"""What is read of ``metrics.json`` whatever is asked."""


@dataclass(frozen=True)
class Check:
    """One threshold on one run.

    Attributes:
        value: what was measured; None: nothing was.
        passed: whether it holds; what was not measured does not.
    """

    name: str
    limit: float
    value: float | None
    passed: bool

    @property
    def line(self) -> str:
        """What is printed for a failure."""
        sign = "at most" if self.name.startswith("max") else "at least"
        subject = self.name.split("_", 1)[1].replace("_", " ")
        found = "not measured" if self.value is None else _told_from(self.value, self.limit)
        return f"{subject} is {found}, and {sign} {self.limit:g} is asked"


def _told_from(value: float, limit: float) -> str:
    """The value with as many digits as tell it from the limit, at least four."""
    texts = (f"{value:.{digits}g}" for digits in range(4, 17))
    return next((text for text in texts if float(text) != limit), f"{value:.4g}")


def _at(*keys: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]:
    def value(metrics: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
        found: Any = metrics
        for key in keys:
            found = None if found is None else found.get(key)
        return found

    return value


def _gap(metrics: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    return metrics["accuracy"]["average"] - metrics["accuracy"]["worst_group"]


def _retained(metrics: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    elsewhere = metrics.get("retained")
    if elsewhere is not None:
        return elsewhere["after"] / elsewhere["before"] if elsewhere["before"] else None
    if before.get("retained") is not None:
        return None  # other classes were asked, and this run names none of them
    was = before["accuracy"]["average"] if before else 0.0
    return metrics["accuracy"]["average"] / was if was else None


MEASURES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], float | None]] = {
    "min_worst_group": _at("accuracy", "worst_group"),
    "min_average": _at("accuracy", "average"),
    "max_gap": _gap,
    "min_aiou": _at("aiou", "average"),
    "min_aiou_worst_group": _at("aiou", "worst_group"),
    "min_retained": _retained,
}
"""Each threshold's measure of a run's metrics and of the pre-trained model's, {} where there are none."""


def check_metrics(
    thresholds: Thresholds, metrics: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> list[Check]:
    """Every threshold that is asked, on one run's metrics.

    Args:
        before: the pre-trained model's metrics.

    Raises:
        SettingsError: no threshold is asked.
    """
    asked = {name: limit for name, limit in thresholds.model_dump().items() if limit is not None}
    if not asked:
        raise SettingsError("no threshold is given", where="check", now="give one, such as --min-worst-group 0.7")
    found: list[Check] = []
    for name, limit in asked.items():
        value = MEASURES[name](metrics, before or {})
        found.append(Check(name, limit, value, value is not None and _holds(name, value, limit)))
    return found


def _holds(name: str, value: float, limit: float) -> bool:
    return value <= limit + ROUNDING if name.startswith("max") else value >= limit - ROUNDING


def check_run(
    workspace: Workspace, thresholds: Thresholds, run: str | None = None, split: str = "test"
) -> tuple[str, list[Check]]:
    """A run's name and how it stands to every threshold.

    Args:
        run: None: the best method's first sound seed, by validation.
        split: whose images the metrics must be of.

    Raises:
        WorkspaceError: there is no run, or none evaluated as it is now on that split, or its metrics are damaged.
        SettingsError: no threshold, or a name that no run has.
    """
    runs = load_runs(workspace)
    name = chosen_run(workspace, runs, run)
    metrics = _evaluated(workspace, name, split)
    came = _evaluated(workspace, run_name(PRETRAINED.name, 0), split)
    check_evaluated(Embedded(workspace, torch.device("cpu")))
    try:
        return name, check_metrics(thresholds, metrics, came)
    except (AttributeError, KeyError, TypeError) as error:
        raise WorkspaceError(
            "it holds no numbers where despur wrote them",
            where=workspace.path("runs", name, "metrics.json"),
            now=f"run: despur evaluate -w {workspace.root}",
        ) from error


def _evaluated(workspace: Workspace, name: str, split: str) -> dict[str, Any]:
    file, again = workspace.path("runs", name, "metrics.json"), f"run: despur evaluate -w {workspace.root}"
    record = workspace.record("evaluate")
    if record is None or not file.exists():
        raise WorkspaceError("the run is not evaluated yet", where=file, now=again)
    metrics = read_object(file, NEEDED)
    if damaged_outputs(workspace, record, [file]):
        raise WorkspaceError("it is not what despur evaluate wrote", where=file, now=again)
    if metrics["split"] != split:
        what = f"it is of the split {metrics['split']!r}, and {split!r} is asked"
        raise WorkspaceError(what, where=file, now=f"{again} --split {split}")
    return metrics


def write_junit(path: Path, run: str, found: list[Check], split: str = "test") -> None:
    """The checks as JUnit XML: a test case a threshold, in a suite that is named for the run, with the split in it.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    failures = sum(not check.passed for check in found)
    suite = ElementTree.Element("testsuite", name=f"despur {run}", tests=str(len(found)), failures=str(failures))
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="split", value=split)
    for check in found:
        case = ElementTree.SubElement(suite, "testcase", classname=run, name=check.name)
        if not check.passed:
            ElementTree.SubElement(case, "failure", message=check.line)
    ElementTree.indent(suite)
    with write_whole(path) as temporary:
        ElementTree.ElementTree(suite).write(temporary, encoding="utf-8", xml_declaration=True)
