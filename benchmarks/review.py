"""How long the review page takes from a verdict to the next card: 5,000 pairs over 50,000 images.

A browser posts the verdict and is sent on to the next card; both answers are timed together, sync of the verdict to
the disk included, beside a list of the queue and a bare answer of the same framework.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from starlette.testclient import TestClient

from despur.data.examples import make_dataset, to_arrow
from despur.detect.schema import SCHEMA
from despur.detect.table import Searched, write_detections
from despur.features.predict import PREDICTIONS_SCHEMA
from despur.pipeline.detecting import SearchSettings
from despur.pipeline.embedded import Embedded
from despur.pipeline.ranking import rank_stage
from despur.pipeline.reviewing import ranking_is_current
from despur.rank import RankSettings
from despur.review.app import create_app
from despur.review.session import Session
from despur.workspace import StageRecord, Workspace, write_parquet
from harness import arguments, tell

CLASSES = 100
PHRASES = 50
SEEN = 6


def write_workspace(root: Path, images: int, seed: int = 0) -> Workspace:
    """Every phrase is seen in every class: ``CLASSES`` times ``PHRASES`` pairs."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % CLASSES
    correct = rng.random(images) < 0.8
    predicted = np.where(correct, labels, (labels + 1) % CLASSES)
    ids = [f"train/{number:06}.png" for number in range(images)]
    classes = [f"class {number}" for number in range(CLASSES)]
    Image.new("RGB", (64, 64), "teal").save(root / "one.png")
    columns = {"id": ids, "image": ["one.png"] * images, "label": labels.tolist(), "split": ["train"] * images}
    dataset = make_dataset("table:made.csv", root, classes, (), columns)
    predictions = pa.table(
        {
            "id": ids,
            "label": labels.astype(np.int32),
            "predicted": predicted.astype(np.int32),
            "correct": correct,
            "margin": np.where(correct, 1, -1).astype(np.float32) * rng.random(images, dtype=np.float32),
        },
        schema=PREDICTIONS_SCHEMA,
    )
    phrases = [f"thing {number}" for number in range(PHRASES)]
    phrase = rng.integers(0, PHRASES, images * SEEN)
    corner = np.full(len(phrase), 8.0, dtype=np.float32)
    detections = pa.table(
        [
            pa.array(ids).take(pa.array(np.repeat(np.arange(images), SEEN))),
            pa.array(phrases).take(pa.array(phrase)),
            pa.array(rng.random(len(phrase), dtype=np.float32)),
            *map(pa.array, (corner, corner, corner + 20, corner + 20)),
        ],
        schema=SCHEMA,
    )
    workspace = Workspace.create(root / "work", dataset="table:made.csv", model="made")
    empty = pa.table({"id": pa.array([], pa.string())})
    write_parquet(workspace.path("examples.parquet"), to_arrow(dataset))
    write_parquet(workspace.path("predictions.parquet"), predictions)
    write_parquet(workspace.path("quarantine.parquet"), empty)
    write_detections(workspace.path("detections.parquet"), [detections], Searched(tuple(phrases), (), (), ""))
    settings = {"embed": {}, "predict": {}, "detect": SearchSettings().model_dump(mode="json")}
    for stage, chosen in settings.items():
        workspace.save_record(stage, StageRecord(settings=chosen, inputs=stage, versions={}, seed=None, seconds=0.0))
    rank_stage(Embedded(workspace, torch.device("cpu")), RankSettings(top=PHRASES, compared=PHRASES, same=None))
    return workspace


def milliseconds(work: Callable[[], object], runs: int) -> list[float]:
    taken: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def main() -> None:
    options = arguments("from a verdict to the next card of the review page")
    images, runs = (2_000, 5) if options.quick else (50_000, 60)
    folder = Path(tempfile.mkdtemp(prefix="despur-review-"))
    try:
        session = Session(write_workspace(folder, images), name="Ada", is_current=ranking_is_current)
        client = TestClient(create_app(session), base_url="http://127.0.0.1")
        started = time.perf_counter()
        pairs = len(session.study().candidates)
        opened = time.perf_counter() - started
        place = f"/pairs/{session.study().candidates[0].key}"

        def judge() -> None:
            nonlocal place
            fields = {"token": session.form_token, "verdict": "spurious"}
            answer = client.post(f"{place}/verdict", data=fields)
            assert answer.status_code == 200
            place = answer.url.path

        judge()
        taken = milliseconds(judge, runs)
        listing = milliseconds(lambda: client.get("/"), runs)
        bare = milliseconds(lambda: client.get("/static/icon.svg"), runs)
        session.store.close()
    finally:
        shutil.rmtree(folder)
    ratios = {"next_card_over_bare_answer": statistics.median(taken) / statistics.median(bare)}
    numbers = {
        "pairs": pairs,
        "images": images,
        "next_card_ms": round(statistics.median(taken), 1),
        "next_card_ms_slowest_in_20": round(float(np.quantile(taken, 0.95)), 1),
        "queue_ms": round(statistics.median(listing), 1),
        "open_s": round(opened, 2),
    }
    tell("review", ratios, {}, options, **numbers)
    if not options.json:
        for name, value in numbers.items():
            print(f"{name:40s} {value:g}")


if __name__ == "__main__":
    main()
