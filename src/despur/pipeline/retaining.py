"""The stage retain: what a repair costs on classes that were not repaired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from despur.backbones.heads import Heads
from despur.backbones.prompts import fill
from despur.data.examples import Dataset, make_dataset
from despur.data.folder import load_test_folder
from despur.data.quarantine import check_unreadable, quarantine_table
from despur.data.synsets import choose_synsets, thousand
from despur.errors import DataError, SettingsError, nearest
from despur.features.encode import encode_texts
from despur.features.predict import PREDICTED_AT_ONCE, predict
from despur.features.store import FeatureStore, embed_to_store
from despur.features.texts import TextStore
from despur.pipeline.embedded import Embedded
from despur.pipeline.embedding import images_fingerprint, table_fingerprint
from despur.pipeline.evaluation import RETAIN, RETAINED, runs_state
from despur.pipeline.runner import run_stage
from despur.pipeline.training import load_runs
from despur.workspace import fingerprint, read_yaml, write_json

IMAGENET = "imagenet"
"""Instead of a file of names: folders are called by ImageNet's numbers, indices or names."""

OWN_CLASSES = ("probe.weight", "context.weight")
"""Heads that replace the text side by the repaired classes: such a model names no other class."""


def retain_stage(embedded: Embedded, spec: str, names: str | None = None) -> bool:
    """Zero-shot accuracy of every run on a folder of other classes, before and after: writes ``retained.json``.

    The folder's images are embedded once, into ``retained/`` of the workspace. Classes that were repaired are left out.

    Args:
        spec: ``folder:DIR``, a folder of images for each class.
        names: what the folders' classes are called: "imagenet", or a YAML file of folder to phrase; None: as they are.

    Returns:
        whether anything was computed.

    Raises:
        DespurError: the folder or the names are not as described, fewer than two classes are left, too many images
            cannot be read, or nothing is trained.
    """
    workspace = embedded.workspace
    runs = load_runs(workspace)
    dataset, phrases = unrepaired(load_retained(spec), names, _repaired(embedded))
    contents, table = images_fingerprint(dataset.image_paths(), embedded.progress), table_fingerprint(dataset.table)

    def work() -> None:
        encoder = embedded.backbone.fingerprint()
        folder = workspace.path("retained", fingerprint(contents, encoder)[:12])
        store = embed_to_store(
            dataset, embedded.backbone, folder, state=fingerprint(contents, encoder), progress=embedded.progress
        )
        check_unreadable(quarantine_table(store.unreadable), len(dataset), where=spec, now="mend or remove them")
        texts = TextStore(folder / "texts.safetensors", encoder)
        templates = embedded.wording.templates
        features = texts.features(
            fill(templates, phrases),
            lambda missing: encode_texts(embedded.backbone, missing, progress=embedded.progress),
        )
        prompts = features.to(embedded.device).unflatten(0, (len(templates), len(phrases)))
        judged = dataset.rows(np.isin(dataset.ids, store.ids))
        before = _accuracy(embedded.heads, judged, store, prompts)
        found: dict[str, dict[str, float]] = {}
        for name, run in runs.items():
            if not any(head in run.heads for head in OWN_CLASSES):
                heads = {key: head.to(embedded.device) for key, head in run.heads.items()}
                after = _accuracy(heads, judged, store, prompts)
                found[name] = {"classes": len(phrases), "images": len(judged), "before": before, "after": after}
        write_json(workspace.path(RETAINED), {"folder": spec, "runs": found})

    return run_stage(
        workspace,
        RETAIN,
        settings={"folder": spec, "names": names, "runs": runs_state(workspace)},
        inputs=fingerprint(embedded.state, contents, table, phrases),
        outputs=[workspace.path(RETAINED)],
        work=work,
        device=embedded.device,
    )


def load_retained(spec: str) -> Dataset:
    """The images that a spec names, all to be judged.

    Raises:
        DataError: it is no ``folder:DIR``, or not a folder of images for each class.
    """
    kind, _, place = spec.partition(":")
    if kind != "folder" or not place:
        raise DataError("it is no folder of classes", where=spec, now="write folder:DIR")
    return load_test_folder(place)


def _repaired(embedded: Embedded) -> set[str]:
    """What the repaired classes are called, in small letters."""
    classes = embedded.dataset.classes
    return {name.casefold() for label in classes for name in (label, *embedded.wording.names(label))}


def unrepaired(dataset: Dataset, names: str | None, repaired: set[str]) -> tuple[Dataset, list[str]]:
    """The images of classes that were not repaired, labelled among these, and what the classes are called."""
    phrases = _phrases(dataset, names)
    kept = [label for label, phrase in enumerate(phrases) if phrase.casefold() not in repaired]
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} of its classes were not repaired", where=dataset.spec, now="give two other classes at least"
        )
    rows = dataset.rows(np.isin(dataset.labels, kept))
    places = {label: place for place, label in enumerate(kept)}
    columns = {name: rows.table[name].to_pylist() for name in ("id", "image", "split")}
    columns["label"] = [places[label] for label in rows.labels.tolist()]
    classes = [dataset.classes[label] for label in kept]
    return make_dataset(rows.spec, rows.root, classes, (), columns), [phrases[label] for label in kept]


def _phrases(dataset: Dataset, names: str | None) -> list[str]:
    """What each class of the folder is called in prompts."""
    if names is None:
        return list(dataset.classes)
    if names == IMAGENET:
        return [thousand()[wnid] for wnid in choose_synsets(dataset.classes, where=dataset.spec)]
    said = _read_names(Path(names))
    for name in said:
        if name not in dataset.classes:
            raise SettingsError(
                f"there is no class folder {name!r}", where=names, now=nearest(name, list(dataset.classes))
            )
    return [said.get(name, name) for name in dataset.classes]


def _read_names(file: Path) -> Mapping[str, str]:
    content = read_yaml(file, missing=f"name a file, or say {IMAGENET}")
    if not isinstance(content, dict) or not all(isinstance(value, str) and value.strip() for value in content.values()):
        raise SettingsError("it does not say a phrase for each folder", where=file, now="write lines of FOLDER: phrase")
    return {str(name): phrase for name, phrase in content.items()}


@torch.no_grad()
def _accuracy(
    heads: Heads, dataset: Dataset, store: FeatureStore, prompts: Float[Tensor, "templates classes d_text"]
) -> float:
    table = predict(dataset.ids, dataset.labels, store.batches(PREDICTED_AT_ONCE), heads, prompts)
    return float(table["correct"].to_numpy().mean())
