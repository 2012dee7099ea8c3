"""The stages as plain functions, for a notebook: things in, things out, no workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from despur.backbones.protocol import Backbone
from despur.data.examples import Dataset
from despur.data.quarantine import MAX_UNREADABLE, check_share, check_unreadable, quarantine_table
from despur.detect import DetectSettings
from despur.explain.measure import explanation_report
from despur.features.batching import EmbedChoices
from despur.features.encode import encode_images
from despur.features.precision import Precision
from despur.metrics import AccuracyReport
from despur.mitigate.callback import Callback
from despur.mitigate.methods import DESPUR, find_method
from despur.mitigate.methods.pretrained import PRETRAINED
from despur.mitigate.runs import Run
from despur.mitigate.settings import TrainSettings
from despur.mitigate.trainer import train
from despur.pipeline.chosen import unhelped
from despur.pipeline.detecting import Search, SearchSettings
from despur.pipeline.embedded import EmbeddedImages, InMemory
from despur.pipeline.evaluation import accuracy_of, metrics, split_of
from despur.pipeline.explaining import measure_runs
from despur.pipeline.ranking import SPLIT, ranked
from despur.pipeline.reporting import section_of_runs
from despur.pipeline.settings import checked
from despur.pipeline.studying import make_study
from despur.pipeline.training import run_name
from despur.pipeline.wording import read_wording
from despur.progress import Progress, silent
from despur.rank import Ranking, RankSettings
from despur.report import Report, write_report
from despur.workspace import read_parquet, versions


def embed(
    dataset: Dataset,
    backbone: Backbone,
    *,
    batch_size: int | Literal["auto"] = 64,
    precision: Precision | Literal["auto"] = "auto",
    prompts: str | Path | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    progress: Progress = silent,
) -> InMemory:
    """Run the frozen image encoder over a dataset; images that cannot be read are left out.

    Args:
        batch_size: images that go through the encoder together; "auto": as many as a GPU's memory takes.
        precision: what the encoder computes in; "auto": half precision on CUDA, float32 elsewhere.
        prompts: YAML file of templates, and of what classes and attributes are called in them; None: OpenAI's 80
            templates and the dataset's own words.
        max_unreadable: accepted share of images that cannot be read, in [0, 1].

    Raises:
        SettingsError: a setting means nothing, or the prompts name what the dataset has not.
        DataError: more than ``max_unreadable`` of the images cannot be read.
    """
    check_share(max_unreadable)
    asked = checked(EmbedChoices, {"batch_size": batch_size, "precision": precision}, where="embed")
    wording = read_wording(None if prompts is None else Path(prompts))
    if prompts is not None:
        wording.check(dataset, backbone)
    settings = asked.settled(backbone)
    batches = list(
        encode_images(
            dataset.image_paths(),
            backbone,
            batch_size=settings.batch_size,
            precision=settings.precision,
            progress=progress,
        )
    )
    ids, images = dataset.ids, dataset.table["image"].to_pylist()
    lost = [(ids[row], images[row], reason) for batch in batches for row, reason in batch.unreadable]
    quarantine = quarantine_table(lost, dataset)
    check_unreadable(quarantine, len(dataset), max_unreadable, where=dataset.spec)
    kept = np.array([row for batch in batches for row in batch.rows], dtype=np.int64)
    features = torch.cat([batch.features for batch in batches if batch.rows])
    return InMemory(
        dataset.rows(kept),
        backbone,
        features,
        device=backbone.device,
        wording=wording,
        quarantine=quarantine,
        progress=progress,
    )


def detect(
    embedded: EmbeddedImages,
    detector: str = "owlvit",
    vocabulary: str | Sequence[str] = "builtin",
    *,
    batch_size: int = 8,
    max_unreadable: float = MAX_UNREADABLE,
    **settings: object,
) -> pa.Table:
    """Look for a vocabulary's phrases in every image.

    Args:
        detector, vocabulary: as in :class:`~despur.pipeline.detecting.SearchSettings`.
        batch_size: images that go through the detector together.
        max_unreadable: accepted share of images that cannot be read or judged, in [0, 1].
        settings: more of those settings.

    Returns:
        ``id, phrase, score, x0, y0, x1, y1``, a row a sighting; what was looked for rides in its metadata.

    Raises:
        DespurError: the detector or vocabulary is unknown or cannot be had, or too many images cannot be judged.
    """
    check_share(max_unreadable)
    specs = (vocabulary,) if isinstance(vocabulary, str) else tuple(vocabulary)
    chosen = checked(SearchSettings, {"detector": detector, "vocabulary": specs, **settings}, where="detect")
    search = Search(embedded, chosen)
    with TemporaryDirectory(prefix="despur-") as folder:
        path = Path(folder) / "detections.parquet"
        searched = search.run(path, checked(DetectSettings, {"batch_size": batch_size}, where="detect"))
        quarantine = quarantine_table(searched.quarantined)
        check_unreadable(quarantine, len(search.dataset), max_unreadable, where=search.dataset.spec)
        table = read_parquet(path)
    if chosen.split is None:
        return table
    return table.replace_schema_metadata({**table.schema.metadata, SPLIT: chosen.split})


def rank(embedded: EmbeddedImages, detections: pa.Table, **settings: object) -> Ranking:
    """Discrepancies of every (class, attribute) pair: accuracy with the attribute minus accuracy without it (Eq. 7).

    Args:
        detections: as :func:`detect` returns them. Only the images that it searched are counted.
        settings: fields of :class:`~despur.rank.RankSettings` (``order``, ``top``, ``min_count``, ...).

    Raises:
        DespurError: an unknown setting, another split than was searched, or no image to count.
    """
    return ranked(embedded, detections, checked(RankSettings, settings, where="rank"))


def mitigate(
    embedded: EmbeddedImages,
    method: str = DESPUR,
    *,
    attribute: str | None = None,
    seeds: Sequence[int] = (0,),
    callbacks: Sequence[Callback] = (),
    **settings: object,
) -> list[Run]:
    """Retrain the heads with one method, one run a seed, all side by side.

    Args:
        method: a name ("despur", the recommended one) or losses joined by plus signs ("clip+vc+ls").
        attribute: the spurious attribute; None: the only one there is.
        seeds: of the order of the images, one a run.
        callbacks: one a run, told of each epoch as it ends; none: nobody looks on.
        settings: fields of :class:`~despur.mitigate.settings.TrainSettings`, over the method's own defaults.

    Raises:
        DespurError: an unknown method or setting, or a study that the method means nothing on.
    """
    found = find_method(method)
    chosen = TrainSettings.checked(found.settings, **settings)
    study = make_study(embedded, embedded.dataset.attribute(attribute))
    return train(study, found, chosen, seeds=seeds, progress=embedded.progress, callbacks=callbacks)


def evaluate(
    embedded: EmbeddedImages, run: Run | None = None, *, split: str = "test", attribute: str | None = None
) -> AccuracyReport:
    """Group accuracies of a run, or of the model as it came, on a split.

    Args:
        run: None: the model as it came.
        split: "train", "val" or "test".
        attribute: whose groups; None: the only one there is. A run has its own, which is used instead.

    Raises:
        DataError: the split has no images, or there is no such attribute.
    """
    heads = embedded.heads if run is None else run.heads
    return accuracy_of(embedded, heads, split_of(embedded, split, attribute if run is None else run.attribute))[0]


def explain(
    embedded: EmbeddedImages, runs: Sequence[Run], *, split: str = "test", batch_size: int = 32
) -> Mapping[str, Float[np.ndarray, "images"]]:
    """AIoU of every run ("erm-seed0") on every image of a split; NaN where the image has neither box nor mask.

    Raises:
        DataError: the split has no images.
        UnreadableImage: an image or a mask cannot be read.
    """
    by_name = {run_name(run.method, run.seed): run for run in runs}
    return measure_runs(embedded, by_name, embedded.dataset.split(split), batch_size)["aiou"]


def report(
    embedded: EmbeddedImages,
    runs: Sequence[Run],
    file: str | Path,
    *,
    split: str = "test",
    aiou: Mapping[str, Float[np.ndarray, "images"]] | None = None,
    title: str = "despur report",
) -> Path:
    """Write one HTML page that opens offline: the model as it came beside every run, by method and by group.

    Args:
        runs: as :func:`mitigate` gives them, of one attribute.
        file: the page, replaced if it exists; missing folders are made.
        split: where accuracies are from.
        aiou: as :func:`explain` gives it for the same split; None: the page says nothing of maps.
        title: the heading.

    Returns:
        The page's path.

    Raises:
        DataError: the split has no images.
        WorkspaceError: the page cannot be written.
    """
    by_name = {run_name(run.method, run.seed): run for run in runs}
    attribute = runs[0].attribute if runs else None
    if PRETRAINED.name not in by_name:
        (came,) = mitigate(embedded, PRETRAINED.name, attribute=attribute)
        by_name = {PRETRAINED.name: came, **by_name}
    judged = split_of(embedded, split, attribute)
    measured: dict[str, Any] = {}
    for name, run in by_name.items():
        accuracy, _ = accuracy_of(embedded, run.heads, judged)
        values = (aiou or {}).get(name)
        overlap = None if values is None else explanation_report(values, judged.groups, accuracy.worst_group_index)
        explained = None if overlap is None else {"aiou": overlap.to_json()}
        measured[name] = metrics(run, split, accuracy, explained, judged.grouping.source)
    section = section_of_runs(embedded.backbone.spec, by_name, measured, judged.grouping.phrases)
    page = Report(
        title=title,
        dataset=embedded.dataset.spec,
        sections=[section],
        created=datetime.now().astimezone(),
        settings={name: run.settings.model_dump(mode="json") for name, run in by_name.items()},
        versions=versions(),
        notes=[f"{sentence}." for sentence in unhelped(by_name)],
    )
    write_report(Path(file), page)
    return Path(file)
