"""Groups by an attribute's labels, or by what was detected of judged pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from despur.backbones.protocol import Backbone
from despur.data.examples import BASE_SCHEMA, to_arrow
from despur.errors import DataError, TrainingError, WorkspaceError
from despur.pipeline import MitigateSettings, evaluate_stage, mitigate_stage
from despur.pipeline.comparing import compare_stage
from despur.pipeline.detecting import SearchSettings, detect_stage
from despur.pipeline.embedded import Embedded
from despur.pipeline.evaluation import check_evaluated
from despur.pipeline.grouping import (
    CLASSES_ALONE,
    JUDGED,
    Grouping,
    group_warnings,
    grouping_of,
    grouping_state,
    groups_of,
    judged_by,
    small_groups,
)
from despur.pipeline.reporting import section_of
from despur.pipeline.training import load_runs
from despur.report.findings import findings
from despur.review.events import Action, now
from despur.review.store import VERDICTS, VerdictStore
from despur.workspace import Workspace, read_json, write_parquet


@pytest.fixture
def labelled(own_work: Path, backbone: Backbone) -> Embedded:
    """With the attribute's column as what a detector saw."""
    found = Embedded(Workspace.open(own_work), torch.device("cpu"), backbone)
    detect_stage(found, SearchSettings(detector="column"))
    return found


@pytest.fixture
def unlabelled(labelled: Embedded) -> Embedded:
    """The same images and sightings, of a dataset that names no attribute."""
    dataset = labelled.dataset
    bare = replace(dataset, attributes=(), table=dataset.table.select(BASE_SCHEMA.names))
    write_parquet(labelled.workspace.path("examples.parquet"), to_arrow(bare))
    return Embedded(labelled.workspace, labelled.device, labelled.backbone)


def say(embedded: Embedded, class_name: str, attribute: str = "water", **other: object) -> None:
    what = {"kind": "verdict", "verdict": "spurious", "who": "ann", "at": now(), **other}
    store = VerdictStore(embedded.workspace.path(VERDICTS))
    store.add(Action.model_validate({**what, "class_name": class_name, "attribute": attribute}))
    store.close()


def test_an_attribute_s_labels_are_the_groups_where_there_is_one(labelled: Embedded) -> None:
    say(labelled, "landbird")
    found = grouping_of(labelled)
    assert (found.name, found.source, found.note) == ("water", "labels", "")
    np.testing.assert_array_equal(found.groups, labelled.dataset.groups("water"))
    assert found.attribute_names == ["water", "water"]
    assert groups_of(labelled, None) == "attribute"
    assert grouping_state(labelled) == ()


def test_a_validation_group_that_is_small_or_missing_is_warned_of_and_one_that_is_nowhere_is_not() -> None:
    validation = np.repeat([0, 1, 3, 5, 6], [30, 5, 1, 20, 4])
    grouping = Grouping(
        name="",
        source="detections",
        classes=("landbird", "waterbird", "gull"),
        attributes=(("water",), ("bamboo",), ("sea",)),
        phrases=(),
        whole=("owl",),
        groups=np.concatenate([validation, np.full(3, 2)]),  # of group 4 there is no image at all
    )
    assert small_groups(grouping, np.arange(len(validation))) == [
        "only 5 validation images show landbird with water; what was selected by them may be chance",
        "no validation image shows waterbird without bamboo, so nothing is selected by that group",
        "only 1 validation image shows waterbird with bamboo; what was selected by them may be chance",
        "only 4 validation images show owl; what was selected by them may be chance",
    ]


def test_many_small_groups_are_counted_and_not_listed() -> None:
    names = tuple(f"class {number}" for number in range(200))
    grouping = Grouping("", "classes", (), (), names, np.arange(200), whole=names)
    *named, last = small_groups(grouping, np.arange(200))
    assert len(named) == 6
    assert last == "and 194 more groups have fewer than 20 validation images or none"


def test_disputed_pairs_are_warned_of_where_methods_are_told_verdicts(labelled: Embedded) -> None:
    say(labelled, "landbird")
    say(labelled, "waterbird")
    say(labelled, "waterbird", who="bob", verdict="healthy")
    assert not any("differ" in warning for warning in group_warnings(labelled))
    *_, last = group_warnings(labelled, chosen="verdicts")
    assert last == "judges differ on waterbird and water; nothing is done about it"


def test_small_groups_are_those_that_methods_are_told_and_not_those_that_they_are_judged_by(labelled: Embedded) -> None:
    say(labelled, "waterbird")
    by_labels, by_verdicts, by_classes = (
        [warning for warning in group_warnings(labelled, chosen=chosen) if warning.startswith("only")]
        for chosen in ("attribute", "verdicts", "classes")
    )
    assert by_labels
    assert [warning for warning in by_verdicts if "landbird with" in warning] == []
    assert [warning for warning in by_classes if " with" in warning] == []
    assert any("landbird with" in warning for warning in by_labels)


def test_without_an_attribute_judged_pairs_and_sightings_are_the_groups(
    labelled: Embedded, unlabelled: Embedded
) -> None:
    for name in ("waterbird", "landbird"):
        say(unlabelled, name)
    found = grouping_of(unlabelled)
    np.testing.assert_array_equal(found.groups, labelled.dataset.groups("water"))
    assert (found.name, found.source, found.subject) == (JUDGED, "detections", "water")
    assert found.phrases[2:] == ("waterbird without water", "waterbird with water")
    assert groups_of(unlabelled, None) == "verdicts"


def test_a_class_that_nobody_judged_is_one_group_after_those_of_pairs(unlabelled: Embedded) -> None:
    say(unlabelled, "waterbird")
    found = grouping_of(unlabelled)
    assert (found.classes, found.whole) == (("waterbird",), ("landbird",))
    assert found.names == list(found.phrases) == ["waterbird without water", "waterbird with water", "landbird"]
    labels = unlabelled.dataset.labels
    assert set(found.groups[labels == 0]) == {2}
    assert set(found.groups[labels == 1]) == {0, 1}


def test_a_struck_image_changes_its_group_and_the_state(unlabelled: Embedded) -> None:
    say(unlabelled, "waterbird")
    before, state = grouping_of(unlabelled).groups, grouping_state(unlabelled)
    row = int(np.flatnonzero(before == 1)[0])
    say(unlabelled, "waterbird", kind="strike", verdict=None, image=unlabelled.dataset.ids[row])
    assert np.flatnonzero(grouping_of(unlabelled).groups != before).tolist() == [row]
    assert grouping_state(unlabelled) != state


def test_without_an_attribute_and_without_a_verdict_there_are_no_groups(unlabelled: Embedded) -> None:
    with pytest.raises(WorkspaceError, match=r"no pair is judged spurious.*--verdicts FILE"):
        grouping_of(unlabelled)
    with pytest.raises(DataError, match="no attributes"):
        groups_of(unlabelled, "attribute")
    with pytest.raises(DataError, match="no attributes"):
        groups_of(unlabelled, None, "water")


def test_classes_alone_are_groups_only_where_they_are_asked_for(labelled: Embedded, unlabelled: Embedded) -> None:
    with pytest.raises(WorkspaceError, match="--groups classes"):
        grouping_of(unlabelled)
    found = grouping_of(unlabelled, CLASSES_ALONE)
    assert (found.source, found.whole, found.subject) == ("classes", ("landbird", "waterbird"), "")
    np.testing.assert_array_equal(found.groups, unlabelled.dataset.labels)
    assert judged_by(unlabelled, "classes") == CLASSES_ALONE
    assert judged_by(labelled, "classes", "water") == "water"
    assert grouping_state(unlabelled) == ()
    assert all("waterbird with" not in warning for warning in group_warnings(unlabelled, chosen="classes"))


@pytest.mark.parametrize("method", ["group-dro", "erm-balanced", "jtt", "clip+lc+vc"])
def test_a_dataset_of_which_nothing_is_known_is_trained_and_judged_by_its_classes(
    unlabelled: Embedded, method: str
) -> None:
    settings = MitigateSettings(
        methods=(method,), groups="classes", train={"epochs": 2, "batch_size": 16, "selection": "average"}
    )
    mitigate_stage(unlabelled, settings)
    run = load_runs(unlabelled.workspace)[f"{method}-seed0"]
    assert run.attribute == CLASSES_ALONE
    evaluate_stage(unlabelled)
    found = read_json(unlabelled.workspace.path("runs", f"{method}-seed0", "metrics.json"))
    rates = {group["class"]: group["accuracy"] for group in found["accuracy"]["groups"]}
    assert list(rates) == ["landbird", "waterbird"]
    assert found["accuracy"]["worst_group"] == min(rates.values())
    assert found["groups_from"] == "classes"
    columns = run.history.column_names
    assert [name for name in columns if name.startswith("accuracy/")] == ["accuracy/landbird", "accuracy/waterbird"]
    section = replace(section_of(unlabelled), random_weights=False)
    assert findings(section)[0].startswith("No shortcut is known, so that each class is one group")
    # A verdict later on: what was trained by classes is judged by the same groups as what is trained by verdicts.
    say(unlabelled, "waterbird")
    mitigate_stage(unlabelled, MitigateSettings(methods=("erm",), train={"epochs": 1, "batch_size": 16}))
    evaluate_stage(unlabelled)
    assert len(section_of(unlabelled).groups) == 3
    compared = compare_stage(unlabelled, MitigateSettings(methods=("erm",), groups="classes", train={"epochs": 1}))
    assert compared.warnings[0].startswith("no shortcut is known")


@pytest.mark.parametrize(
    ("method", "named"),
    [
        *((name, name) for name in ("orth-proj", "orth-cali", "roboshot", "perception-clip", "dfr")),
        ("clip+ls", "the loss ls"),
        ("vs", "the loss vs"),
    ],
)
def test_what_reads_a_shortcut_is_refused_by_name_where_none_is_known(
    unlabelled: Embedded, method: str, named: str
) -> None:
    settings = MitigateSettings(methods=(method,), groups="classes", train={"epochs": 1, "batch_size": 16})
    with pytest.raises(TrainingError, match=f"^{named}: it reads what is spurious, and is not told"):
        mitigate_stage(unlabelled, settings)


def test_methods_may_be_told_no_group_and_be_judged_by_labels(labelled: Embedded) -> None:
    settings = MitigateSettings(methods=("group-dro",), groups="classes", train={"epochs": 1, "batch_size": 16})
    mitigate_stage(labelled, settings)
    run = load_runs(labelled.workspace)["group-dro-seed0"]
    assert run.attribute == "water"
    assert "accuracy/waterbird with water" not in run.history.column_names
    evaluate_stage(labelled)
    found = read_json(labelled.workspace.path("runs", "group-dro-seed0", "metrics.json"))
    assert len(found["accuracy"]["groups"]) == 4


def test_a_verdict_on_what_was_never_looked_for_is_refused(unlabelled: Embedded) -> None:
    say(unlabelled, "waterbird", "harbour")
    with pytest.raises(WorkspaceError, match=r"'harbour' is judged spurious for 'waterbird', and was never looked for"):
        grouping_of(unlabelled)


def test_inferred_groups_give_the_same_numbers_and_are_computed_again_after_a_verdict(
    labelled: Embedded, unlabelled: Embedded
) -> None:
    file = labelled.workspace.path("runs", "pretrained", "metrics.json")
    evaluate_stage(labelled)
    known = read_json(file)
    assert known["groups_from"] == "labels"
    say(unlabelled, "waterbird")
    settings = MitigateSettings(methods=("erm",), train={"epochs": 1, "batch_size": 16})
    mitigate_stage(unlabelled, settings)
    evaluate_stage(unlabelled)
    half = read_json(file)
    *judged, other = half["accuracy"]["groups"]
    assert judged == known["accuracy"]["groups"][2:]
    assert (other["class"], other["attribute"]) == ("landbird", None)
    assert half["accuracy"]["worst_group"] == min(group["accuracy"] for group in (*judged, other))
    assert half["accuracy"]["average"] == known["accuracy"]["average"]
    say(unlabelled, "landbird")
    with pytest.raises(WorkspaceError, match="groups have changed since they were evaluated"):
        check_evaluated(unlabelled)
    mitigate_stage(unlabelled, settings)
    evaluate_stage(unlabelled)
    whole = read_json(file)
    assert whole["groups_from"] == "detections"
    assert whole["accuracy"] == known["accuracy"]
