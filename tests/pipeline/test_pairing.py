"""Groups from verdicts and detections: the paper's promise, without group labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.errors import WorkspaceError
from despur.pipeline import MitigateSettings, mitigate_stage
from despur.pipeline.detecting import SearchSettings, detect_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.pairing import MANY_STRUCK, SpuriousPair, judged_pairs, pair_warnings, presence_of
from despur.pipeline.studying import make_paired_study, make_study
from despur.pipeline.training import load_runs
from despur.review.events import Action, now
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import Workspace

IDS = ["a", "b", "c"]
SEEN = pa.table(
    {
        "id": ["a", "a", "b", "elsewhere"],
        "phrase": ["water", "water", "fog", "water"],
        "score": pa.array([0.3, 0.6, 0.9, 1.0], type=pa.float32()),
    }
)


def test_presence_is_what_was_seen_or_its_highest_score() -> None:
    pairs = [SpuriousPair("bird", "water"), SpuriousPair("bird", "fog")]
    np.testing.assert_allclose(presence_of(pairs, SEEN, IDS), [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(presence_of(pairs, SEEN, IDS, soft=True), [[0.6, 0], [0, 0.9], [0, 0]])


def test_a_struck_image_is_the_opposite_of_what_was_seen() -> None:
    pairs = [SpuriousPair("bird", "water", frozenset({"a", "c"}))]
    np.testing.assert_allclose(presence_of(pairs, SEEN, IDS), [[0], [0], [1]])


@pytest.fixture
def embedded(own_work: Path, backbone: Backbone) -> Embedded:
    """With the attribute's column as what a detector saw."""
    found = Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)
    detect_stage(found, SearchSettings(detector="column"))
    return found


def judge(embedded: Embedded, who: str, class_name: str, verdict: str) -> None:
    store = VerdictStore(embedded.workspace.path(VERDICTS))
    store.add(
        Action.model_validate(
            {
                "kind": "verdict",
                "who": who,
                "class_name": class_name,
                "attribute": "water",
                "verdict": verdict,
                "at": now(),
            }
        )
    )
    store.close()


def test_without_a_spurious_verdict_there_is_nothing_to_do(embedded: Embedded) -> None:
    with pytest.raises(WorkspaceError, match=r"no pair is judged spurious.*despur review"):
        judged_pairs(embedded.workspace)
    judge(embedded, "ann", "landbird", "healthy")
    with pytest.raises(WorkspaceError, match="no pair is judged spurious"):
        judged_pairs(embedded.workspace)


def test_verdicts_that_contradict_each_other_are_told_and_left_out(embedded: Embedded) -> None:
    judge(embedded, "ann", "landbird", "spurious")
    judge(embedded, "ann", "waterbird", "spurious")
    judge(embedded, "bob", "waterbird", "healthy")
    judged = judged_pairs(embedded.workspace)
    assert [pair.class_name for pair in judged.spurious] == ["landbird"]
    assert pair_warnings(embedded) == ["judges differ on waterbird and water; nothing is done about it"]


def test_strikes_are_held_against_what_was_seen_in_their_own_class(embedded: Embedded) -> None:
    dataset = embedded.dataset
    water = np.array(dataset.table["water"].to_pylist())
    waterbirds, landbirds = (np.flatnonzero(water & (dataset.labels == label)) for label in (1, 0))
    assert len(landbirds) > 2
    for name in ("landbird", "waterbird"):
        judge(embedded, "ann", name, "spurious")
    # So few that they would be lost among the sightings in both classes.
    few = 1 + int(MANY_STRUCK * len(landbirds))
    assert few <= MANY_STRUCK * (len(landbirds) + len(waterbirds))
    store = VerdictStore(embedded.workspace.path(VERDICTS))
    for row in landbirds[:few]:
        what = {"kind": "strike", "who": "ann", "class_name": "landbird", "attribute": "water", "at": now()}
        store.add(Action.model_validate({**what, "image": dataset.ids[row]}))
    store.close()
    (warning,) = pair_warnings(embedded)
    assert warning.startswith(
        f"{few} images were struck out for landbird and water, which was seen in {len(landbirds)} "
    )


def test_groups_from_a_faultless_detector_are_the_attribute_s(embedded: Embedded) -> None:
    judge(embedded, "ann", "landbird", "spurious")
    judge(embedded, "ann", "waterbird", "spurious")
    attribute = embedded.dataset.attribute()
    pairs = judged_pairs(embedded.workspace).spurious
    known, found = make_study(embedded, attribute), make_paired_study(embedded, attribute.name, pairs)
    assert found.train.groups.squeeze(-1).tolist() == known.train.groups.tolist()
    assert [found.group_name(group) for group in range(4)] == [known.group_name(group) for group in range(4)]


@pytest.mark.parametrize("groups", ["verdicts", "soft-verdicts"])
def test_methods_train_on_inferred_groups_and_again_when_a_verdict_changes(embedded: Embedded, groups: str) -> None:
    judge(embedded, "ann", "landbird", "spurious")
    settings = MitigateSettings(methods=("erm-balanced",), groups=groups, train={"epochs": 2, "batch_size": 16})
    mitigate_stage(embedded, settings)
    first = load_runs(embedded.workspace)["erm-balanced-seed0"]
    columns = [name for name in first.history.column_names if name.startswith("accuracy/")]
    assert columns == ["accuracy/landbird without water", "accuracy/landbird with water", "accuracy/waterbird"]
    judge(embedded, "ann", "waterbird", "spurious")
    mitigate_stage(embedded, settings)
    again = load_runs(embedded.workspace)["erm-balanced-seed0"]
    assert "accuracy/waterbird with water" in again.history.column_names
