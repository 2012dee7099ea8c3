"""The stage explain: measures of every run's maps from one pass over the images, checks of the maps, and strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.data.examples import Box, Dataset
from despur.data.images import read_image
from despur.explain.curves import STEPS
from despur.explain.measure import ELSEWHERE, ON_OBJECT, measure_explanations
from despur.explain.method import MapMethod
from despur.explain.methods import GRADCAM, find_map_method
from despur.explain.places import NOWHERE, Places, boxes_seen
from despur.explain.trust import check_maps
from despur.features.encode import cut
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.pipeline.chosen import best_run
from despur.pipeline.detecting import detect_objects
from despur.pipeline.embedded import Embedded, EmbeddedImages
from despur.pipeline.embedding import images_fingerprint
from despur.pipeline.evaluation import (
    CHECKS,
    EXPLAIN,
    EXPLANATIONS,
    OF_IMAGES,
    Split,
    measure_column,
    runs_state,
    split_of,
)
from despur.pipeline.grouping import Grouping, grouping_state
from despur.pipeline.pairing import judgements_of
from despur.pipeline.runner import run_stage
from despur.pipeline.settings import ExplainSettings
from despur.pipeline.strips import STRIPS, strip_files, write_strips
from despur.pipeline.training import load_runs, run_names
from despur.workspace import Workspace, fingerprint, fingerprint_file, read_parquet, write_json, write_parquet

DETECTIONS = "detections.parquet"

OBJECTS = "objects.parquet"
"""Where a detector saw the classes themselves, in images of which the dataset does not say where the object is."""


def explain_stage(embedded: Embedded, settings: ExplainSettings | None = None, split: str = "test") -> bool:
    """Write ``explanations.parquet``, ``checks.json`` and ``strips/``; returns whether it computed.

    Where the attribute was detected in an image of which the dataset does not say where the object is, the same
    detector is asked for the image's class (``objects.parquet``).

    The table holds ``id``, a column of AIoU a run, and a column ``RUN/MEASURE`` for every other measure; NaN where an
    image has neither box nor mask. Measures of where a model looks instead are there if the workspace has detections
    of the attribute with boxes. Maps that are not Grad-CAM's go into files and a stage of their own
    (``explanations-rollout.parquet``), beside the paper's.

    Raises:
        ModelError: the map method means nothing on this model, or the detector cannot be had any more.
        SettingsError: there is no such map method.
        WorkspaceError: there is no run.
    """
    settings = settings or ExplainSettings()
    method = find_map_method(settings.method)
    workspace = embedded.workspace
    runs = load_runs(workspace)
    state = runs_state(workspace)
    method.check(embedded.backbone)
    attribute = runs[PRETRAINED.name].attribute
    whole = split_of(embedded, split, attribute)
    drawn = _draw(whole, settings)
    masks = [drawn.dataset.root / mask for mask in drawn.dataset.table["mask"].to_pylist() if mask]
    detections = workspace.path(DETECTIONS)
    detected = fingerprint_file(detections) if detections.exists() else ""
    stage = of_method(EXPLAIN, method, "/")
    table_file, checks_file, strips_folder, objects_file = (
        workspace.path(of_method(name, method)) for name in (EXPLANATIONS, CHECKS, STRIPS, OBJECTS)
    )
    struck = struck_images(workspace, drawn.grouping)
    wrong = [[*pair, sorted(images)] for pair, images in struck.items()]

    def work() -> None:
        attribute = attribute_places(workspace, drawn.dataset, drawn.grouping, struck)
        places = Places(attribute, object_places(embedded, drawn.dataset, attribute, objects_file))
        measured = measure_runs(embedded, runs, drawn.dataset, settings.batch_size, method=method, places=places)
        write_parquet(table_file, explanations_table(drawn.dataset.ids, measured))
        compared = compared_runs(runs)
        write_json(checks_file, _checks(embedded, compared, whole, method, settings))
        write_strips(embedded, compared, drawn, measured["aiou"], method, settings, strips_folder)

    def outputs() -> list[Path]:
        files = [table_file, checks_file, *strip_files(strips_folder)]
        record = workspace.record(stage)
        known = record is not None and objects_file.relative_to(workspace.root).as_posix() in record.outputs
        return [*files, objects_file] if known or objects_file.exists() else files

    state_of_groups = [*grouping_state(embedded), *([fingerprint(wrong)] if wrong else [])]
    return run_stage(
        workspace,
        stage,
        settings={**settings.model_dump(mode="json"), "split": split, "runs": state},
        inputs=fingerprint(embedded.state, state, images_fingerprint(masks), detected, *state_of_groups),
        outputs=outputs,
        work=work,
        seed=settings.seed,
        device=embedded.device,
    )


def of_method(name: str, method: MapMethod[Any], separator: str = "-") -> str:
    """A file's or a stage's name for one map method (``checks-rollout.json``); Grad-CAM's is the name itself."""
    if method.name == GRADCAM.name:
        return name
    stem, dot, suffix = name.partition(".")
    return f"{stem}{separator}{method.name}{dot}{suffix}"


def compared_runs(runs: Mapping[str, Run]) -> dict[str, Run]:
    """The pre-trained model, and the run that stands for "after" where there is one."""
    after = best_run(runs)
    return {name: runs[name] for name in (PRETRAINED.name, after) if name is not None}


def explanations_table(ids: list[str], measured: Mapping[str, Mapping[str, Float[np.ndarray, "images"]]]) -> pa.Table:
    """AIoU in a column a run, other measures beside it; what is known of no image is left out."""
    columns: dict[str, Any] = {"id": ids, **measured["aiou"]}
    for measure, by_run in measured.items():
        if measure == "aiou" or all(np.isnan(values).all() for values in by_run.values()):
            continue
        columns |= {measure_column(run, measure): values for run, values in by_run.items()}
    return pa.table(columns)


def struck_images(workspace: Workspace, grouping: Grouping) -> dict[tuple[str, str], frozenset[str]]:
    """Ids of the images in which people say that the detector is wrong, by class and attribute of the grouping."""
    judgements = judgements_of(workspace)
    pairs = [
        (name, attribute)
        for name, attributes in zip(grouping.classes, grouping.attributes, strict=True)
        for attribute in attributes
    ]
    found = {pair: frozenset(judgements.struck(pair)) for pair in pairs}
    return {pair: images for pair, images in found.items() if images}


def attribute_places(
    workspace: Workspace, dataset: Dataset, grouping: Grouping, struck: Mapping[tuple[str, str], frozenset[str]]
) -> dict[str, list[Box]]:
    """Where the workspace's detections put, by image id, what is spurious for the image's own class.

    Args:
        struck: as :func:`struck_images` gives it; what was seen there by mistake has no place.
    """
    file = workspace.path(DETECTIONS)
    if not file.exists():
        return {}
    detections = read_parquet(file)
    attributes_of = dict(zip(grouping.classes, grouping.attributes, strict=True))
    spurious = {attribute for attributes in grouping.attributes for attribute in attributes}
    boxes_of = {attribute: boxes_seen(detections, [attribute]) for attribute in spurious}
    found: dict[str, list[Box]] = {}
    for image, label in zip(dataset.ids, dataset.labels.tolist(), strict=True):
        name = dataset.classes[label]
        for attribute in attributes_of.get(name, ()):
            if image in boxes_of[attribute] and image not in struck.get((name, attribute), ()):
                found.setdefault(image, []).extend(boxes_of[attribute][image])
    return found


def object_places(
    embedded: Embedded, dataset: Dataset, attribute: Mapping[str, Sequence[Box]], file: Path
) -> dict[str, Sequence[Box]]:
    """Where the detector sees each image's own class, for those that have the attribute's place and not the object's.

    Args:
        attribute: as :func:`attribute_places` gives it.
        file: where the search is written.
    """
    rows = dataset.table.select(["id", "box", "mask"]).to_pylist()
    wanted = [row["id"] in attribute and row["box"] is None and row["mask"] is None for row in rows]
    needed = dataset.rows(np.array(wanted, dtype=np.bool_))
    found = detect_objects(embedded, needed, file)
    names = [needed.classes[label] for label in needed.labels.tolist()]
    of_class = {name: boxes_seen(found, embedded.wording.names(name)) for name in set(names)}
    return {image: of_class[name].get(image, ()) for image, name in zip(needed.ids, names, strict=True)}


def means_of_runs(embedded: Embedded, method: str = GRADCAM.name) -> dict[str, dict[str, float | None]]:
    """What the stage has measured, by measure and run: means over the images, None where nothing is known.

    Measures that no image has are left out, but for AIoU.
    """
    file = embedded.workspace.path(of_method(EXPLANATIONS, find_map_method(method)))
    table = read_parquet(file)
    runs = [name for name in run_names(embedded.workspace) if name in table.column_names]

    def mean(column: str) -> float | None:
        if column not in table.column_names:
            return None
        values = table[column].to_numpy()
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else None

    found = {
        measure: {run: mean(measure_column(run, measure)) for run in runs}
        for measure in (*ON_OBJECT, *ELSEWHERE)
        if measure not in OF_IMAGES
    }
    return {
        measure: by_run
        for measure, by_run in found.items()
        if measure == "aiou" or any(value is not None for value in by_run.values())
    }


def _draw(split: Split, settings: ExplainSettings) -> Split:
    """All images of the split, or as many as the settings allow, drawn by the seed, in the split's order."""
    count = len(split.rows)
    if settings.images is None or settings.images >= count:
        return split
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(count)[: settings.images])
    return replace(split, dataset=split.dataset.rows(chosen), rows=split.rows[chosen], groups=split.groups[chosen])


def measure_runs(
    embedded: EmbeddedImages,
    runs: Mapping[str, Run],
    dataset: Dataset,
    batch_size: int,
    *,
    method: MapMethod[Any] = GRADCAM,
    places: Places = NOWHERE,
) -> dict[str, dict[str, Float[np.ndarray, "images"]]]:
    """Every measure of every run on every image, by measure and run; runs alike in kind are stacked."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, run in runs.items():
        kinds.setdefault(tuple(sorted(run.heads)), []).append(name)
    stacks = [_stack([runs[name].heads for name in names]) for names in kinds.values()]
    measured = measure_explanations(
        embedded.backbone,
        stacks,
        dataset,
        embedded.class_prompts,
        method=method,
        places=places,
        batch_size=batch_size,
        progress=embedded.progress,
    )
    order = [name for names in kinds.values() for name in names]
    rows = {name: order.index(name) for name in runs}
    return {
        measure: {name: measured[measure][row] for name, row in rows.items()} for measure in (*ON_OBJECT, *ELSEWHERE)
    }


def _stack(heads: list[dict[str, Tensor]]) -> Heads:
    """Heads of several runs with a leading runs dimension; a count (``pool.heads``) is the same for all."""
    return {
        name: torch.stack([each[name] for each in heads]) if first.is_floating_point() else first
        for name, first in heads[0].items()
    }


def _checks(
    embedded: Embedded, compared: Mapping[str, Run], split: Split, method: MapMethod[Any], settings: ExplainSettings
) -> dict[str, Any]:
    """Means of the maps' checks over some images, by run; memory does not grow with how many they are."""
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(split.rows))[: settings.checks])
    if not len(rows):
        return {"images": 0, "runs": {}}
    heads = {name: {key: head.to(embedded.device) for key, head in run.heads.items()} for name, run in compared.items()}
    generators = {name: torch.Generator().manual_seed(settings.seed) for name in compared}
    parts: dict[str, list[dict[str, Float[Tensor, "images"]]]] = {name: [] for name in compared}
    # A curve needs every image's picture at every point: so many images fill one of the encoder's batches.
    at_once = max(1, settings.batch_size // (STEPS + 1))
    spans = cut(len(rows), at_once)
    for span in embedded.progress(spans, total=len(rows), label="checking maps", unit="images", each=at_once):
        dataset = split.dataset.rows(rows[span.start : span.stop])
        pixels = torch.stack([embedded.backbone.preprocess(read_image(path)) for path in dataset.image_paths()])
        for name, of_run in parts.items():
            of_run.append(
                check_maps(
                    embedded.backbone,
                    heads[name],
                    method,
                    pixels.to(embedded.device),
                    torch.from_numpy(dataset.labels).to(embedded.device),
                    embedded.class_prompts,
                    generator=generators[name],
                    batch_size=settings.batch_size,
                )
            )
    means = {
        name: {check: float(torch.cat([part[check] for part in of_run]).mean()) for check in of_run[0]}
        for name, of_run in parts.items()
    }
    return {"images": len(rows), "runs": means}
