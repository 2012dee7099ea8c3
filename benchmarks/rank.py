"""``despur rank`` on a table of ImageNet's size, against one scan of the table and against a loop over classes.

1.28 million images of 1,000 classes with 15 detections each out of 8,000 phrases. Three comparisons:

* one scan: DuckDB reads every value of the detections once and does nothing with it (``over_scan``);
* one count: SQL's plain "how often is this phrase seen in this class", which counts a phrase twice where an image shows
  it twice and has no intervals, tests, orders or images to show (``over_count``);
* the loop of METHOD 3.3 with pandas and scikit-learn: for each class, for each phrase seen in ten of its images, mutual
  information and two accuracies; run on 20 classes and scaled to all (``loop_over_ours``).
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import mutual_info_score

from despur.rank import rank
from harness import arguments, in_turns, peak_gb, tell

DETECTIONS = 15
LOOP_CLASSES = 20


def write_tables(folder: Path, images: int, classes: int, phrases: int, seed: int = 0) -> None:
    """Predictions, right three times in four; detections of common phrases, and of forty phrases of each class."""
    rng = np.random.default_rng(seed)
    label = np.arange(images) * classes // images
    ids = pa.array([f"train/n{c:08d}/n{c:08d}_{i}.JPEG" for i, c in enumerate(label)])
    correct = rng.random(images) < 0.75
    predicted = np.where(correct, label, (label + rng.integers(1, min(20, classes), images)) % classes)
    columns = {
        "id": ids,
        "label": label.astype(np.int32),
        "predicted": predicted.astype(np.int32),
        "correct": predicted == label,
        "margin": (rng.standard_normal(images) + 0.5).astype(np.float32),
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet", compression="zstd")
    names = pa.array(sorted(f"thing number {number}" for number in range(phrases)))
    often = 1 / (np.arange(phrases) + 20.0)
    numbers = ("score", "x0", "y0", "x1", "y1")
    schema = pa.schema([("id", pa.string()), ("phrase", pa.string()), *((name, pa.float32()) for name in numbers)])
    with pq.ParquetWriter(folder / "detections.parquet", schema, compression="zstd") as writer:
        for start in range(0, images, 8_192):
            own = label[start : start + 8_192]
            common = rng.choice(phrases, size=(len(own), DETECTIONS), p=often / often.sum())
            special = (own[:, None] * 37 + rng.integers(0, 40, common.shape)) % phrases
            phrase = np.where(rng.random(common.shape) < 0.6, common, special).ravel()
            image = np.repeat(np.arange(start, start + len(own)), DETECTIONS)
            values = [pa.array(rng.random(len(image), dtype=np.float32)) for _ in numbers]
            writer.write_table(
                pa.table([ids.take(pa.array(image)), names.take(pa.array(phrase)), *values], schema=schema)
            )


def ours(folder: Path, classes: int) -> object:
    names = [f"class {number}" for number in range(classes)]
    return rank(folder / "predictions.parquet", folder / "detections.parquet", names)


def scan(folder: Path) -> object:
    # A hash needs every value; a maximum would be answered from the file's own statistics.
    values = "hash(id), hash(phrase), hash(score), hash(x0), hash(y0), hash(x1), hash(y1)"
    columns = ", ".join(f"bit_xor({value})" for value in values.split(", "))
    return duckdb.sql(f"SELECT {columns} FROM '{folder}/detections.parquet'").fetchall()


def count(folder: Path) -> object:
    return duckdb.sql(
        f"""SELECT count(*), sum(n) FROM (
            SELECT label, phrase, count(*) AS n, count(*) FILTER (correct)
            FROM '{folder}/detections.parquet' JOIN '{folder}/predictions.parquet' USING (id) GROUP BY ALL)"""
    ).fetchall()


def loop(predictions: dict[int, pd.DataFrame], detections: dict[int, pd.DataFrame]) -> list[tuple[float, int, str]]:
    """METHOD 3.3 class by class: keep what ten images show, the five of most information, sorted by discrepancy."""
    found: list[tuple[float, int, str]] = []
    for label, images in predictions.items():
        error = ~images["correct"].to_numpy()
        pairs: list[tuple[float, float, str]] = []
        for phrase, seen in detections[label].groupby("phrase", observed=True)["id"]:
            present = images["id"].isin(seen.unique()).to_numpy()
            if present.sum() < 10 or present.all():
                continue
            discrepancy = error[~present].mean() - error[present].mean()
            pairs.append((mutual_info_score(present, error), discrepancy, str(phrase)))
        found += [(discrepancy, label, phrase) for _, discrepancy, phrase in sorted(pairs, reverse=True)[:5]]
    return sorted(found, reverse=True)


def main() -> None:
    options = arguments("despur rank against one scan of its table and a loop over classes")
    duckdb.execute("SET enable_progress_bar = false")
    images, classes, phrases = (40_000, 100, 1_000) if options.quick else (1_280_000, 1_000, 8_000)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, images, classes, phrases)
        seconds = in_turns(
            {
                "ours": partial(ours, folder, classes),
                "scan": partial(scan, folder),
                "count": partial(count, folder),
            }
        )
        some = min(LOOP_CLASSES, classes)
        all_predictions = pq.read_table(folder / "predictions.parquet").slice(0, images * some // classes).to_pandas()
        all_detections = (
            pq.read_table(folder / "detections.parquet", columns=["id", "phrase"])
            .slice(0, DETECTIONS * len(all_predictions))
            .to_pandas()
        )
        # The loop's tables are parted by class before its clock starts.
        all_detections["label"] = np.repeat(all_predictions["label"].to_numpy(), DETECTIONS)
        by_class = dict(iter(all_predictions.groupby("label")))
        seen_by_class = dict(iter(all_detections.groupby("label")))
        start = time.perf_counter()
        loop(by_class, seen_by_class)
        loop_seconds = (time.perf_counter() - start) * classes / some
        peaks = {"ours": peak_gb(partial(ours, folder, classes))}
    tell(
        "rank",
        {
            "over_scan": seconds["ours"] / seconds["scan"],
            "over_count": seconds["ours"] / seconds["count"],
            "loop_over_ours": loop_seconds / seconds["ours"],
        },
        peaks,
        options,
        seconds={**seconds, "loop, scaled": loop_seconds},
    )


if __name__ == "__main__":
    main()
