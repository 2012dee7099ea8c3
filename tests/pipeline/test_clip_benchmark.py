"""The CSV that CLIP_benchmark's ``build`` would make, judged by scikit-learn and by the runs' own metrics."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from despur.backbones.heads import class_logits
from despur.mitigate.runs import load_run
from despur.pipeline.clip_benchmark import ranks_of, write_clip_benchmark
from despur.pipeline.embedded import Embedded
from despur.workspace import Workspace, read_json


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_run_has_a_row_in_their_columns(finished: Embedded, tmp_path: Path) -> None:
    assert write_clip_benchmark(finished, tmp_path / "results.csv") == 5
    for row in rows_of(tmp_path / "results.csv"):
        metrics = read_json(finished.workspace.path("runs", row["pretrained"], "metrics.json"))
        assert float(row["acc1"]) == pytest.approx(metrics["accuracy"]["average"])
        assert float(row["worst_group"]) == pytest.approx(metrics["accuracy"]["worst_group"])
        assert row["model_fullname"] == f"{row['model']} {row['pretrained']}"
        assert (row["task"], row["language"]) == ("zeroshot_classification", "en")
        assert math.isnan(float(row["acc5"]))  # two classes
        assert row["dataset"].startswith("waterbirds/")
        assert "/tmp" not in row["dataset"]


def test_a_model_of_a_folder_is_told_by_its_last_name(finished: Embedded, own_work: Path, tmp_path: Path) -> None:
    own = Embedded(Workspace.open(own_work), finished.device, finished.backbone)
    own.model = own.model.model_copy(update={"spec": "hf:/home/ann/mine"})
    write_clip_benchmark(own, tmp_path / "results.csv")
    assert {row["model"] for row in rows_of(tmp_path / "results.csv")} == {"hf:mine"}
    assert "ann" not in (tmp_path / "results.csv").read_text()


def test_recall_is_scikit_learns_balanced_accuracy(finished: Embedded, tmp_path: Path) -> None:
    write_clip_benchmark(finished, tmp_path / "results.csv")
    rows = finished.dataset.split_rows("test")
    features = finished.rows(rows).float()
    for row in rows_of(tmp_path / "results.csv"):
        heads = load_run(finished.workspace.path("runs", row["pretrained"])).heads
        with torch.no_grad():
            logits = class_logits(heads, features, finished.class_prompts).numpy()
        labels = finished.dataset.labels[rows]
        assert float(row["mean_per_class_recall"]) == pytest.approx(balanced_accuracy_score(labels, logits.argmax(-1)))


@given(seed=st.integers(0, 10_000), classes=st.integers(3, 12), k=st.integers(1, 5))
def test_the_share_of_ranks_below_k_is_scikit_learns_top_k_accuracy(seed: int, classes: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(20, classes, generator=generator)
    labels = torch.randint(classes, (20,), generator=generator)
    theirs = top_k_accuracy_score(labels, logits, k=min(k, classes - 1), labels=range(classes))
    assert (ranks_of(logits, labels) < min(k, classes - 1)).float().mean().item() == pytest.approx(theirs)


def test_of_equal_logits_the_first_class_is_said() -> None:
    assert ranks_of(torch.zeros(3, 3), torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
