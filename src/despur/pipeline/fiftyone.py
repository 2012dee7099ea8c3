"""A workspace as a FiftyOne dataset: samples, classes, attributes, detections, what runs say, and their maps.

Written is the layout that ``fiftyone.Dataset.from_dir(dataset_type=fiftyone.types.FiftyOneDataset)`` reads without a
version of its own in it; FiftyOne is not needed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from despur.backbones.heads import class_logits
from despur.data.examples import Box, Dataset
from despur.data.fiftyone import HAS, LABEL, SAMPLES
from despur.data.images import read_image, upright_size
from despur.data.stores import is_stored
from despur.errors import DataError
from despur.explain.gradcam import explained_classes
from despur.explain.maps import upsample_maps
from despur.explain.methods import GRADCAM
from despur.features.encode import cut
from despur.features.predict import PREDICTED_AT_ONCE
from despur.mitigate.runs import Run
from despur.pipeline.chosen import chosen_run
from despur.pipeline.embedded import Embedded
from despur.pipeline.explaining import DETECTIONS
from despur.pipeline.exporting import new_folder
from despur.pipeline.naming import without_folders
from despur.pipeline.training import load_runs, run_names
from despur.workspace import read_parquet

MAPS = "fields/maps"
IMAGES = "data"
AT_ONCE = 32
"""Images whose maps are made together."""

Label = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        folder: where.
        samples: how many images.
        runs: whose predictions are in it.
        maps: the run whose maps are in it, or None.
    """

    folder: Path
    samples: int
    runs: tuple[str, ...]
    maps: str | None


def write_fiftyone(
    embedded: Embedded, folder: Path, *, split: str | None = None, maps: bool = False, copy: bool = False
) -> Written:
    """Write a new folder, whole or not at all.

    Args:
        split: images of this split alone; None: all.
        maps: also Grad-CAM of each image's own class, under the run that validation prefers.
        copy: copy the images into the folder; else samples name them where they lie.

    Raises:
        DataError: an image lies in a store, where FiftyOne's samples cannot name it, or cannot be read.
        SettingsError: there is something in that place already, or it cannot be written.
        WorkspaceError: maps are asked for and nothing is trained, or a run is damaged.
    """
    whole = embedded.dataset
    rows = np.arange(len(whole)) if split is None else whole.split_rows(split)
    dataset = whole.rows(rows)
    if is_stored(dataset.root):
        raise DataError("its images lie in a store", where=dataset.spec, now="fetch them, and embed the local folder")
    runs = load_runs(embedded.workspace) if run_names(embedded.workspace) else {}
    explained = chosen_run(embedded.workspace, runs, None) if maps else None
    with new_folder(folder) as temporary:
        samples = _samples(embedded, dataset)
        for name, run in runs.items():
            for sample, said in zip(samples, _said(embedded, run, rows), strict=True):
                sample[field_name(name)] = said
        if copy:
            _copy_images(samples, temporary)
        if explained is not None:
            final = folder.absolute() / MAPS
            for sample, file in zip(samples, _write_maps(embedded, runs[explained], dataset, temporary), strict=True):
                sample[f"map_{field_name(explained)}"] = {"_cls": "Heatmap", "map_path": str(final / file)}
        about = {
            "media_type": "image",
            "info": {"dataset": without_folders(whole.spec), "classes": list(whole.classes)},
        }
        (temporary / "metadata.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        (temporary / SAMPLES).write_text(json.dumps({"samples": samples}, ensure_ascii=False), encoding="utf-8")
    return Written(folder, len(samples), tuple(runs), explained)


def field_name(name: str) -> str:
    """A name as FiftyOne's fields may be called: letters, digits and underscores."""
    return re.sub(r"\W", "_", name)


def _samples(embedded: Embedded, dataset: Dataset) -> list[Label]:
    """What the dataset and the detections say of every image."""
    seen = _detections(embedded)
    samples: list[Label] = []
    for path, row in zip(dataset.image_paths(), dataset.table.to_pylist(), strict=True):
        size = upright_size(path)
        name = dataset.classes[row["label"]]
        sample: Label = {
            "filepath": str(path.absolute()),
            "tags": [row["split"]],
            LABEL: {"_cls": "Classification", "label": name},
            "despur_id": row["id"],
        }
        if row["box"] is not None:
            sample["object"] = _detected([(name, None, row["box"])], size)
        sample |= {f"{HAS}{field_name(one.name)}": row[one.name] for one in dataset.attributes}
        if seen is not None:
            sample["detections"] = _detected(seen.get(row["id"], []), size)
        samples.append(sample)
    return samples


def _detections(embedded: Embedded) -> Mapping[str, list[tuple[str, float | None, Box | None]]] | None:
    """(phrase, score, box) of all that was seen, by image; None: nothing was looked for."""
    file = embedded.workspace.path(DETECTIONS)
    if not file.exists():
        return None
    seen: dict[str, list[tuple[str, float | None, Box | None]]] = {}
    for row in read_parquet(file).to_pylist():
        box = None if row["x0"] is None else (row["x0"], row["y0"], row["x1"], row["y1"])
        seen.setdefault(row["id"], []).append((row["phrase"], row["score"], box))
    return seen


def _detected(found: list[tuple[str, float | None, Box | None]], size: tuple[int, int]) -> Label:
    """FiftyOne's ``Detections``; what was seen without a place fills the image."""
    width, height = size
    detections: list[Label] = []
    for phrase, score, box in found:
        x0, y0, x1, y1 = box or (0, 0, width, height)
        shares = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        one: Label = {"_cls": "Detection", "label": phrase, "bounding_box": shares}
        detections.append(one if score is None else {**one, "confidence": score})
    return {"_cls": "Detections", "detections": detections}


def _said(embedded: Embedded, run: Run, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[Label]:
    """What a run says of every image, with its probability."""
    heads = {name: head.to(embedded.device) for name, head in run.heads.items()}
    prompts = embedded.class_prompts
    for span in cut(len(rows), PREDICTED_AT_ONCE):
        features = embedded.rows(rows[span.start : span.stop]).to(prompts)
        with torch.no_grad():
            best = class_logits(heads, features, prompts).softmax(-1).max(-1)
        for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            yield {"_cls": "Classification", "label": embedded.dataset.classes[label], "confidence": share}


def _copy_images(samples: list[Label], folder: Path) -> None:
    """Copies under numbered names, so that two images of one name both have a place."""
    (folder / IMAGES).mkdir()
    for number, sample in enumerate(samples):
        path = Path(sample["filepath"])
        sample["filepath"] = f"{IMAGES}/{number:06d}{path.suffix.lower()}"
        shutil.copyfile(path, folder / sample["filepath"])


def _write_maps(embedded: Embedded, run: Run, dataset: Dataset, folder: Path) -> Iterator[str]:
    """Write each image's map of its own class, over the whole photograph; gives the files' names."""
    backbone = embedded.backbone
    heads = {name: head.to(embedded.device) for name, head in run.heads.items()}
    classes = explained_classes(heads, embedded.class_prompts)
    labels = torch.from_numpy(dataset.labels).to(embedded.device)
    paths = dataset.image_paths()
    framing = backbone.framing
    (folder / MAPS).mkdir(parents=True)
    spans = cut(len(paths), AT_ONCE)
    for span in embedded.progress(spans, total=len(paths), label="drawing maps", unit="images", each=AT_ONCE):
        photographs = [read_image(paths[row]) for row in span]
        pixels = torch.stack([backbone.preprocess(photograph) for photograph in photographs]).to(embedded.device)
        maps = GRADCAM.maps(backbone, heads, GRADCAM.see(backbone, pixels), classes)
        own = maps[torch.arange(len(span), device=maps.device), labels[span.start : span.stop]]
        windows = upsample_maps(own, (framing.height, framing.width)).cpu().numpy()
        for row, photograph, window in zip(span, photographs, windows, strict=True):
            laid = framing.uncropped(window, photograph.size)
            Image.fromarray((255 * laid).round().astype(np.uint8)).save(folder / MAPS / f"{row:06d}.png")
            yield f"{row:06d}.png"
