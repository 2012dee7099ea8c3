"""The paper's Figures 3 to 6 over a workspace: what the model as it came relies on, and where each method looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from despur.explain.method import MapMethod
from despur.explain.methods import find_map_method
from despur.explain.sheet import Cell, Row, Sheet, to_png, to_svg
from despur.mitigate.methods import find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import Split, accuracy_of, split_of
from despur.pipeline.explaining import compared_runs
from despur.pipeline.settings import ExplainSettings, checked
from despur.pipeline.strips import AT_RANDOM, Seen, chosen_of_groups, heads_of, how_chosen
from despur.pipeline.training import load_runs
from despur.workspace import write_whole

FIGURES = "figures"


def write_figures(
    embedded: Embedded,
    *,
    method: str = "gradcam",
    per_group: int = 1,
    contour: bool = False,
    split: str = "test",
    batch_size: int = 32,
    seed: int = 0,
) -> list[Path]:
    """Write ``figures/shortcuts`` (Figure 3) and ``figures/methods`` (Figures 4, 5 and 6), each as PNG and SVG.

    Which of the three the second one is depends on the workspace: RN50 or ViT-L/14@336px on Waterbirds, RN50 on the two
    classes of ImageNet.

    Args:
        method: how maps are made: a name of :data:`~despur.explain.methods.MAP_METHODS`.
        per_group: images a group, 1 or more.
        contour: draw maps as contour lines and not as colours.
        split: what images are drawn from.
        batch_size: images at once.
        seed: draws images.

    Returns:
        The files, ``shortcuts`` before ``methods``, PNG before SVG.

    Raises:
        WorkspaceError: nothing is trained yet.
        SettingsError: there is no such map method, or nothing can be drawn by that seed.
        ModelError: the map method means nothing on this model.
    """
    checked(ExplainSettings, {"seed": seed, "batch_size": batch_size}, where="figures")
    runs = load_runs(embedded.workspace)
    maps = find_map_method(method)
    maps.check(embedded.backbone)
    part = split_of(embedded, split, runs[PRETRAINED.name].attribute)
    sheets = {
        "shortcuts": shortcuts_sheet(embedded, runs[PRETRAINED.name], part, maps, per_group, contour, seed),
        "methods": methods_sheet(embedded, runs, part, maps, per_group, contour, seed, batch_size),
    }
    written: list[Path] = []
    for name, sheet in sheets.items():
        for suffix in ("png", "svg"):
            written.append(embedded.workspace.path(FIGURES, f"{name}.{suffix}"))
            with write_whole(written[-1]) as temporary:
                if suffix == "png":
                    to_png(sheet).save(temporary, format="PNG", optimize=True)
                else:
                    temporary.write_text(to_svg(sheet), encoding="utf-8")
    return written


def shortcuts_sheet(
    embedded: Embedded,
    run: Run,
    split: Split,
    method: MapMethod[Any],
    per_group: int,
    contour: bool,
    seed: int,
) -> Sheet:
    """Figure 3: for every class, images that the model has right with its shortcut's help and wrong without it."""
    report, correct = accuracy_of(embedded, run.heads, split)
    phrases = split.grouping.phrases
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for place in range(len(split.grouping.classes)):
        pair = [2 * place, 2 * place + 1]
        rates = [report.groups[group].accuracy for group in pair]
        if None in rates:
            continue
        easy, hard = sorted(pair, key=lambda group: -(report.groups[group].accuracy or 0.0))
        halves = [
            generator.permutation(np.flatnonzero((split.groups == group) & (correct == right)))[:per_group]
            for group, right in ((easy, True), (hard, False))
        ]
        for first, second in zip(*halves, strict=False):
            seen = Seen(embedded, split.dataset.rows(np.array([first, second])), {PRETRAINED.name: run.heads}, method)
            cells = [
                cell
                for index in range(2)
                for cell in (Cell(seen.photograph(index)), _cell(seen, index, PRETRAINED.name, contour=contour))
            ]
            heading = " against ".join(
                f"{phrases[group]} ({100 * (report.groups[group].accuracy or 0.0):.0f}% right)"
                for group in (easy, hard)
            )
            rows.append(Row(heading, cells))
    caption = (
        f"{method.title} of the labelled class under {embedded.model.spec} as it came, over images of split "
        f"“{split_name(split)}”: on the left one that it has right where its shortcut helps, on the right one that it "
        f"has wrong where it does not. {_outline_note(split)}Drawn at random (seed {seed}) among all such images."
    )
    if not rows:
        caption = f"{embedded.model.spec} has no class with an image right with its shortcut and one wrong without it."
    return Sheet("What the model as it came relies on", ("photograph", "map") * 2, rows, caption)


def methods_sheet(
    embedded: Embedded,
    runs: Mapping[str, Run],
    split: Split,
    method: MapMethod[Any],
    per_group: int,
    contour: bool,
    seed: int,
    batch_size: int,
) -> Sheet:
    """Figures 4 to 6: images of every group, and each method's map of them (its sound run with the lowest seed)."""
    shown = first_of_methods(runs)
    compared = compared_runs(runs)
    phrases = split.grouping.phrases
    chosen = chosen_of_groups(embedded, compared, split, method, count=per_group, batch_size=batch_size, seed=seed)
    rows: list[Row] = []
    for group, row, how in embedded.progress(chosen, total=len(chosen), label="drawing figures", unit="images"):
        seen = Seen(embedded, split.dataset.rows(np.array([row])), heads_of(shown), method)
        cells = [Cell(seen.photograph(0), (how,))]
        cells += [_cell(seen, 0, name, contour=contour) for name in shown]
        rows.append(Row(phrases[group], cells))
    last = find_method(list(compared.values())[-1].method).title
    after = "" if {how for _, _, how in chosen} <= {AT_RANDOM} else f" Change is from the first map to that of {last}."
    caption = (
        f"{method.title} of the labelled class under {embedded.model.spec}, and what each model says; images of split "
        f"“{split_name(split)}”, drawn {how_chosen({how for _, _, how in chosen}, seed)}.{after} {_outline_note(split)}"
        f"Of each method the run with seed {min(run.seed for run in runs.values())} or the lowest that did not diverge."
    )
    titles = [find_method(run.method).title for run in shown.values()]
    return Sheet("Where each method looks", ("photograph", *titles), rows, caption)


def first_of_methods(runs: Mapping[str, Run]) -> dict[str, Run]:
    """One run a method, in the order they were trained in: the lowest seed that did not diverge."""
    found: dict[str, str] = {}
    for name, run in sorted(runs.items(), key=lambda item: item[1].seed):
        if run.diverged_step is None:
            found.setdefault(run.method, name)
    return {name: run for name, run in runs.items() if name in found.values()}


def split_name(split: Split) -> str:
    """The name of the split that all of these images are of."""
    return str(split.dataset.table["split"][0].as_py())


def _cell(seen: Seen, index: int, run: str, *, contour: bool) -> Cell:
    said, label = seen.said[run][index], int(seen.dataset.labels[index])
    return Cell(seen.laid(index, run, contour=contour), (f"says {seen.dataset.classes[said]}",), wrong=said != label)


def _outline_note(split: Split) -> str:
    known = any(split.dataset.table[column].null_count < len(split.dataset) for column in ("box", "mask"))
    return "The object is outlined in white. " if known else ""
