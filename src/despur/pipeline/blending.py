"""Blends of the original weights and a run's: what each share of the repair buys and costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from despur.backbones.placing import blended
from despur.errors import SettingsError
from despur.pipeline.chosen import chosen_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.grouping import grouping_state
from despur.pipeline.runner import run_stage
from despur.pipeline.training import load_runs
from despur.report.blend import BlendPoint, blend_figure, figure_page
from despur.workspace import fingerprint, fingerprint_file, read_object, write_json, write_whole

STEPS = 10
"""Steps from the original weights to the repaired ones."""


@dataclass(frozen=True)
class BlendCurve:
    """Accuracies along the way from the original weights to a run's.

    Attributes:
        run: its name.
        split: whose images were judged.
        points: from share 0 to share 1.
        files: where the curve is written: as JSON and as a page.
    """

    run: str
    split: str
    points: tuple[BlendPoint, ...]
    files: tuple[Path, Path]


def blend_stage(embedded: Embedded, run: str | None = None, split: str = "test") -> BlendCurve:
    """Write ``figures/blend-RUN.json`` and ``.html``: accuracies of (1 - A) of the original weights and A of a run's.

    Args:
        run: its name; None: the best method's first sound seed, by validation.

    Raises:
        WorkspaceError: nothing is trained.
        SettingsError: there is no such run, or it adds a part that the original model has nothing to blend with.
    """
    workspace = embedded.workspace
    runs = load_runs(workspace)
    name = chosen_run(workspace, runs, run)
    chosen, original = runs[name], {key: head.cpu() for key, head in embedded.heads.items()}
    added = sorted(key for key in chosen.heads if key not in original)
    if added:
        raise SettingsError(
            f"{name} adds {added[0]} to the model, and there is nothing to blend it with",
            where="--blend-curve",
            now="choose another with --run",
        )
    data, page = (workspace.path("figures", f"blend-{name}.{ending}") for ending in ("json", "html"))

    def work() -> None:
        rows = split_of(embedded, split, chosen.attribute)
        points: list[BlendPoint] = []
        for step in range(STEPS + 1):
            share = step / STEPS
            report, _ = accuracy_of(embedded, blended(original, chosen.heads, share), rows)
            points.append(BlendPoint(share, report.average, report.worst_group))
        write_json(data, {"run": name, "split": split, "points": [asdict(point) for point in points]})
        with write_whole(page) as temporary:
            temporary.write_text(figure_page(blend_figure(name, points)), encoding="utf-8")

    heads = fingerprint_file(workspace.path("runs", name, "heads.safetensors"))
    run_stage(
        workspace,
        f"blend/{name}",
        settings={"split": split, "steps": STEPS},
        inputs=fingerprint(embedded.state, heads, chosen.attribute, *grouping_state(embedded)),
        outputs=[data, page],
        work=work,
        device=embedded.device,
    )
    points = tuple(BlendPoint(**point) for point in read_object(data, ("points",))["points"])
    return BlendCurve(name, split, points, (data, page))
