"""Zero-shot results of every run in CLIP_benchmark's columns, so that they stand in one table with other models'."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from despur.backbones.heads import class_logits
from despur.features.encode import cut
from despur.features.predict import PREDICTED_AT_ONCE
from despur.mitigate.runs import Run
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import accuracy_of, split_of
from despur.pipeline.naming import without_folders
from despur.pipeline.training import load_runs
from despur.workspace import write_whole

TASK = "zeroshot_classification"

COLUMNS = (
    "dataset",
    "model",
    "pretrained",
    "model_fullname",
    "task",
    "language",
    "acc1",
    "acc5",
    "mean_per_class_recall",
    "worst_group",
)
"""CLIP_benchmark's own, and the worst group, which its tools pass over."""


def write_clip_benchmark(embedded: Embedded, file: Path, split: str = "test") -> int:
    """Write a CSV with a row a run; returns how many. Rates are fractions in [0, 1].

    As CLIP_benchmark has it: ``acc5`` is not a number below five classes, and ``mean_per_class_recall`` is the mean
    over the classes that have images. ``pretrained`` names the run, the model as it came being "pretrained".

    Raises:
        WorkspaceError: nothing is trained, or the file cannot be written.
    """
    rows = list(_rows(embedded, split))
    with write_whole(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(COLUMNS)
        writer.writerows([row[column] for column in COLUMNS] for row in rows)
    return len(rows)


def _rows(embedded: Embedded, split: str) -> Iterator[dict[str, object]]:
    kind, _, place = embedded.dataset.spec.partition(":")
    name = f"{kind}/{Path(place.partition(',')[0]).name}" if place else kind
    model = without_folders(embedded.model.spec)
    for run_name, run in load_runs(embedded.workspace).items():
        judged = split_of(embedded, split, run.attribute)
        ranks = _ranks(embedded, run, judged.rows)
        report, _ = accuracy_of(embedded, run.heads, judged)
        yield {
            "dataset": name,
            "model": model,
            "pretrained": run_name,
            "model_fullname": f"{model} {run_name}",
            "task": TASK,
            "language": "en",
            "acc1": float(np.mean(ranks < 1)),
            "acc5": float(np.mean(ranks < 5)) if len(embedded.dataset.classes) >= 5 else math.nan,
            "mean_per_class_recall": _mean_recall(ranks < 1, judged.dataset.labels),
            "worst_group": report.worst_group,
        }


def _ranks(embedded: Embedded, run: Run, rows: Int[np.ndarray, "images"]) -> Int[np.ndarray, "images"]:
    heads = {name: head.to(embedded.device) for name, head in run.heads.items()}
    prompts, labels = embedded.class_prompts, torch.from_numpy(embedded.dataset.labels[rows])
    found: list[Tensor] = []
    for span in cut(len(rows), PREDICTED_AT_ONCE):
        inside = slice(span.start, span.stop)
        with torch.no_grad():
            logits = class_logits(heads, embedded.rows(rows[inside]).to(prompts), prompts)
        found.append(ranks_of(logits.cpu(), labels[inside]))
    return torch.cat(found).numpy()


def ranks_of(logits: Float[Tensor, "images classes"], labels: Int[Tensor, "images"]) -> Int[Tensor, "images"]:
    """How many classes each image's logits put before its own; 0 where it is right.

    Of equal logits the earlier class comes first, as it does where one is predicted.
    """
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    return (order == labels.unsqueeze(-1)).int().argmax(-1)


def _mean_recall(correct: Bool[np.ndarray, "images"], labels: Int[np.ndarray, "images"]) -> float:
    return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))
