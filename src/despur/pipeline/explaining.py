"""The stage explain: AIoU of every run from one pass over the images, and pictures of the worst group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads, class_logits
from despur.data.examples import Dataset
from despur.data.images import read_image
from despur.explain.gradcam import class_maps
from despur.explain.measure import measure_explanations
from despur.explain.overlay import overlay
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.pipeline.chosen import best_run
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.embedding import images_fingerprint
from despur.pipeline.evaluation import EXPLANATIONS, Split, accuracy_of, runs_state, split_of
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import ExplainSettings
from despur.pipeline.training import load_runs
from despur.workspace import fingerprint, write_json, write_parquet, write_whole

STRIPS = "strips"


def explain_stage(embedded: Embedded, settings: ExplainSettings | None = None, split: str = "test") -> bool:
    """Write ``explanations.parquet`` (``id`` and a column of AIoU a run) and ``strips/``; returns whether it computed.

    A run's AIoU is NaN where an image has neither box nor mask. Strips show images of the group that the pre-trained
    model is worst at, drawn by the seed, before and after.
    """
    settings = settings or ExplainSettings()
    workspace = embedded.workspace
    runs = load_runs(workspace)
    state = runs_state(workspace)
    if not runs:
        return False
    attribute = runs[PRETRAINED.name].attribute
    whole = split_of(embedded, split, attribute)
    drawn = _draw(whole, settings)
    masks = [drawn.dataset.root / mask for mask in drawn.dataset.table["mask"].to_pylist() if mask]

    def work() -> None:
        measured = measure_runs(embedded, runs, drawn.dataset, settings.batch_size)
        write_parquet(workspace.path(EXPLANATIONS), pa.table({"id": drawn.dataset.ids, **measured}))
        _write_strips(embedded, runs, whole, settings)

    return run_stage(
        workspace,
        "explain",
        settings={**settings.model_dump(mode="json"), "split": split, "runs": state},
        inputs=fingerprint(embedded.state, state, images_fingerprint(masks)),
        outputs=[workspace.path(EXPLANATIONS), workspace.path(STRIPS, "strips.json")],
        work=work,
        seed=settings.seed,
    )


def _draw(split: Split, settings: ExplainSettings) -> Split:
    """All images of the split, or as many as the settings allow, drawn by the seed, in the split's order."""
    count = len(split.rows)
    if settings.images is None or settings.images >= count:
        return split
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(count)[: settings.images])
    return Split(split.dataset.rows(chosen), split.rows[chosen], split.groups[chosen], split.training_groups)


def measure_runs(
    embedded: EmbeddedImages, runs: Mapping[str, Run], dataset: Dataset, batch_size: int
) -> dict[str, Float[np.ndarray, "images"]]:
    """AIoU of every run on every image, NaN where there is neither box nor mask; runs alike in kind are stacked."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, run in runs.items():
        kinds.setdefault(tuple(sorted(run.heads)), []).append(name)
    stacks = [_stack([runs[name].heads for name in names]) for names in kinds.values()]
    values = measure_explanations(
        embedded.backbone,
        stacks,
        dataset,
        embedded.class_prompts,
        batch_size=batch_size,
        progress=embedded.progress,
    )
    order = [name for names in kinds.values() for name in names]
    by_name = dict(zip(order, values, strict=True))
    return {name: by_name[name] for name in runs}


def _stack(heads: list[dict[str, Tensor]]) -> Heads:
    """Heads of several runs with a leading runs dimension; a count (``pool.heads``) is the same for all."""
    return {
        name: torch.stack([each[name] for each in heads]) if first.is_floating_point() else first
        for name, first in heads[0].items()
    }


def _write_strips(embedded: Embedded, runs: Mapping[str, Run], split: Split, settings: ExplainSettings) -> None:
    """Photograph, map before and map after of some images of the worst group, as PNG, with what each model said."""
    workspace = embedded.workspace
    before = runs[PRETRAINED.name]
    report, _ = accuracy_of(embedded, before.heads, split, before.attribute)
    inside = np.flatnonzero(split.groups == report.worst_group_index)
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(inside)[: settings.strips])
    after_name = best_run(runs)
    compared = {PRETRAINED.name: before}
    if after_name is not None:
        compared[after_name] = runs[after_name]
    entries = [
        _strip(embedded, split.dataset.rows(np.array([row])), compared, f"{place:02d}")
        for place, row in enumerate(chosen)
    ]
    phrases = split.dataset.group_phrases(split.dataset.attribute(before.attribute))
    content = {
        "group": phrases[report.worst_group_index],
        "chosen": f"at random (seed {settings.seed})",
        "strips": entries,
    }
    write_json(workspace.path(STRIPS, "strips.json"), content)


def _strip(embedded: Embedded, one: Dataset, compared: Mapping[str, Run], prefix: str) -> dict[str, Any]:
    """Write the pictures of one image; returns what ``strips.json`` says of it."""
    backbone, workspace = embedded.backbone, embedded.workspace
    photograph = read_image(one.image_paths()[0])
    seen = backbone.framing.image(photograph)
    pixels = backbone.preprocess(photograph).unsqueeze(0).to(embedded.device)
    features = backbone.image_features(pixels).float()
    label = int(one.labels[0])
    panels: list[dict[str, Any]] = [{"file": f"{prefix}-photograph.png", "caption": "photograph"}]
    pictures = [seen]
    for name, run in compared.items():
        heads = {key: head.to(embedded.device) for key, head in run.heads.items()}
        saliency = class_maps(backbone, heads, pixels, embedded.class_prompts)[0, label]
        said = int(class_logits(heads, features, embedded.class_prompts)[0].argmax())
        pictures.append(overlay(seen, saliency))
        panels.append(
            {"file": f"{prefix}-{name}.png", "caption": run.method, "said": one.classes[said], "correct": said == label}
        )
    for panel, picture in zip(panels, pictures, strict=True):
        with write_whole(workspace.path(STRIPS, panel["file"])) as temporary:
            picture.save(temporary, format="PNG")
    return {"id": one.ids[0], "panels": panels}
