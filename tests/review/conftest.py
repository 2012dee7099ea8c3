"""A workspace as the stages leave it, small enough to check by eye, over photographs drawn here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image, ImageDraw
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
from despur.review.study import key_of
from despur.workspace import StageRecord, Workspace, write_parquet

PACIFIER, BOTTLE = "baby pacifier", "water bottle"
HOSTILE = "<script>alert('x')</script> & \"quotes\" \U0001f9f7 שלום"

ROWS = (
    [(PACIFIER, PACIFIER, ("baby", "face"))] * 20
    + [(PACIFIER, PACIFIER, ())] * 6
    + [(PACIFIER, BOTTLE, ())] * 13
    + [(PACIFIER, HOSTILE, ())] * 1
    + [(BOTTLE, BOTTLE, ("table",))] * 13
    + [(BOTTLE, PACIFIER, ("table", "baby"))] * 11
    + [(BOTTLE, BOTTLE, ())] * 8
    + [(HOSTILE, HOSTILE, (HOSTILE,))] * 12
    + [(HOSTILE, BOTTLE, ())] * 5
    + [(HOSTILE, HOSTILE, ())] * 3
)
"""(class, what the model says, what the detector sees), an image each. Of forty baby pacifiers, the twenty with a baby
are all recognised, and of the twenty without six; thirteen of those are taken for water bottles."""


def _record(inputs: str, settings: dict[str, object] | None = None) -> StageRecord:
    return StageRecord(settings=settings or {}, inputs=inputs, versions={}, seed=None, seconds=1.0)


def draw_photograph(path: Path, number: int) -> None:
    """Blue on the left, with a yellow square where the detector puts its box."""
    image = Image.new("RGB", (60, 40), (40 + number % 60, 90, 150))
    ImageDraw.Draw(image).rectangle((10, 10, 29, 29), fill=(230, 200, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_workspace(root: Path) -> Workspace:
    """Examples, predictions and detections of ``ROWS``, written as the stages write them, and ranked by the stage."""
    photos = root.parent / "photos"
    names = [f"<b>{number:02}</b> é.png" for number in range(len(ROWS))]
    for number, name in enumerate(names):
        draw_photograph(photos / name, number)
    classes = (PACIFIER, BOTTLE, HOSTILE)
    labels = [classes.index(label) for label, _, _ in ROWS]
    ids = [f"image {number:02}" for number in range(len(ROWS))]
    dataset = make_dataset(
        "table:photos.csv",
        photos,
        classes,
        (),
        {"id": ids, "image": names, "label": labels, "split": ["train", "val", "test", "train"] * (len(ROWS) // 4)},
    )
    predicted = [classes.index(said) for _, said, _ in ROWS]
    correct = [label == said for label, said in zip(labels, predicted, strict=True)]
    margin = [(1 if right else -1) * (0.1 + number / 100) for number, right in enumerate(correct)]
    predictions = pa.table(
        {"id": ids, "label": labels, "predicted": predicted, "correct": correct, "margin": margin},
        schema=PREDICTIONS_SCHEMA,
    )
    seen = [(name, phrase) for name, (_, _, phrases) in zip(ids, ROWS, strict=True) for phrase in phrases]
    corner = np.full(len(seen), 10.0, dtype=np.float32)
    columns = [[name for name, _ in seen], [phrase for _, phrase in seen], np.full(len(seen), 0.5, dtype=np.float32)]
    boxes = [corner, corner, corner + 20, corner + 20]
    detections = pa.table([pa.array(column) for column in (*columns, *boxes)], schema=SCHEMA)
    workspace = Workspace.create(root, dataset="table:photos.csv", model="birdland:vit")
    write_parquet(workspace.path("examples.parquet"), to_arrow(dataset))
    write_parquet(workspace.path("predictions.parquet"), predictions)
    write_parquet(
        workspace.path("quarantine.parquet"),
        pa.table({"id": pa.array([], pa.string()), "image": pa.array([], pa.string())}),
    )
    searched = Searched(tuple(sorted({phrase for _, phrase in seen})), (), (), "searched")
    write_detections(workspace.path("detections.parquet"), [detections], searched)
    workspace.save_record("embed", _record("embedded"))
    workspace.save_record("predict", _record("predicted"))
    workspace.save_record("detect", _record("detected", SearchSettings().model_dump(mode="json")))
    rank_stage(Embedded(workspace, torch.device("cpu")), RankSettings(min_count=5))
    return workspace


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace and its photographs; copy before changing."""
    home = tmp_path_factory.mktemp("review")
    write_workspace(home / "work")
    return home


@dataclass
class Open:
    """A review under test: a client as a browser on this machine, and what it talks to."""

    client: TestClient
    session: Session
    workspace: Workspace

    def form(self, **fields: object) -> dict[str, object]:
        """A form of one of our own pages."""
        return {"token": self.session.form_token, **fields}

    def judge(self, class_name: str, attribute: str, verdict: str, **fields: object):
        key = key_of(class_name, attribute)
        return self.client.post(f"/pairs/{key}/verdict", data=self.form(verdict=verdict, **fields))


OpenReview = Callable[..., Open]


@pytest.fixture
def work(written: Path, tmp_path: Path) -> Path:
    """A copy of the workspace; the photographs stay where they are."""
    return Path(shutil.copytree(written / "work", tmp_path / "work"))


@pytest.fixture
def open_review(work: Path) -> Iterator[OpenReview]:
    """Starts a review over the test's workspace; several can be open at once."""
    opened: list[Session] = []

    def start(*, token: str | None = None, name: str = "Ada", maps=None, base: str = "http://127.0.0.1:8000") -> Open:
        workspace = Workspace.open(work)
        session = Session(workspace, name=name, is_current=ranking_is_current, maps=maps)
        opened.append(session)
        return Open(TestClient(create_app(session, token=token), base_url=base), session, workspace)

    yield start
    for session in opened:
        session.store.close()


@pytest.fixture
def review(open_review: OpenReview) -> Open:
    return open_review()
