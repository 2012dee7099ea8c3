from __future__ import annotations

import json
from collections import Counter
from math import nan
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, fisher_exact
from sklearn.metrics import mutual_info_score
from statsmodels.stats.proportion import confint_proportions_2indep

from despur.errors import DataError, SettingsError, WorkspaceError
from despur.rank import RankSettings, helping, hurting, rank
from despur.rank.counting import KeyFile, Sightings, read_population, read_sightings

CLASSES = ("landbird", "waterbird", "boat")
PHRASES = ("boat deck", "sea", "tree", "water")

Prediction = tuple[str, int, int, float]
"""id, label, predicted, margin"""


def predictions_table(rows: list[Prediction]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([row[0] for row in rows], type=pa.string()),
            "label": pa.array([row[1] for row in rows], type=pa.int32()),
            "predicted": pa.array([row[2] for row in rows], type=pa.int32()),
            "correct": pa.array([row[1] == row[2] for row in rows], type=pa.bool_()),
            "margin": pa.array([row[3] for row in rows], type=pa.float32()),
        }
    )


def detections_table(rows: list[tuple[str, str]], scores: list[float] | None = None) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([row[0] for row in rows], type=pa.string()),
            "phrase": pa.array([row[1] for row in rows], type=pa.string()),
            "score": pa.array(scores if scores is not None else [0.5] * len(rows), type=pa.float32()),
        }
    )


def brute_force(
    rows: list[Prediction], seen: list[tuple[str, str]], min_count: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """Every number from a loop over images, one pair at a time."""
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    present = set(seen)
    for label, name in enumerate(CLASSES):
        own = [row for row in rows if row[1] == label]
        for phrase in sorted({phrase for _, phrase in seen}):
            having = [row for row in own if (row[0], phrase) in present]
            lacking = [row for row in own if (row[0], phrase) not in present]
            if len(having) < max(min_count, 1):
                continue
            right = [sum(row[1] == row[2] for row in side) for side in (having, lacking)]
            errors = Counter(row[2] for row in lacking if row[1] != row[2])
            most = max(errors.values(), default=0)
            pair: dict[str, Any] = {
                "n_with": len(having),
                "n_without": len(lacking),
                "accuracy_with": right[0] / len(having),
                "accuracy_without": None,
                "discrepancy": None,
                "ci_low": None,
                "ci_high": None,
                "p_value": None,
                "q_value": None,
                "mutual_information": mutual_info_score(
                    [(row[0], phrase) in present for row in own], [row[1] != row[2] for row in own]
                ),
                "confused_class": CLASSES[min(c for c in errors if errors[c] == most)] if errors else None,
            }
            if lacking:
                pair["accuracy_without"] = right[1] / len(lacking)
                pair["discrepancy"] = pair["accuracy_with"] - pair["accuracy_without"]
                pair["ci_low"], pair["ci_high"] = confint_proportions_2indep(
                    right[0], len(having), right[1], len(lacking), method="newcomb", compare="diff"
                )
                table = [[right[0], len(having) - right[0]], [right[1], len(lacking) - right[1]]]
                pair["p_value"] = fisher_exact(table).pvalue
            pairs[name, phrase] = pair
    tested = [pair for pair in pairs.values() if pair["p_value"] is not None]
    if tested:
        rates = false_discovery_control([pair["p_value"] for pair in tested])
        for pair, rate in zip(tested, rates, strict=True):
            pair["q_value"] = rate
    return pairs


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Prediction], list[tuple[str, str]]]:
    """A few images of up to three classes, and what was seen in them, with repetitions and strangers."""
    count = draw(st.integers(1, 25))
    ids = [f"image {number}" for number in range(count)]
    index = st.integers(0, len(CLASSES) - 1)
    rows = [(name, draw(index), draw(index), draw(st.floats(-1, 1, width=32))) for name in ids]
    seen = draw(st.lists(st.tuples(st.sampled_from([*ids, "a stranger"]), st.sampled_from(PHRASES)), max_size=60))
    # Detections of strangers alone are refused: a test of their own.
    return rows, seen if any(name in ids for name, _ in seen) else []


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_every_number_is_that_of_a_loop_over_images_whatever_the_order_of_rows(
    world: tuple[list[Prediction], list[tuple[str, str]]], min_count: int, random: Any
) -> None:
    rows, seen = world
    expected = brute_force(rows, [(name, phrase) for name, phrase in seen if name != "a stranger"], min_count)
    random.shuffle(rows)
    random.shuffle(seen)
    ranking = rank(predictions_table(rows), detections_table(seen), CLASSES, RankSettings(min_count=min_count))
    found = {(row["class"], row["attribute"]): row for row in ranking.table.to_pylist()}
    assert found.keys() == expected.keys()
    for pair, numbers in expected.items():
        got = {name: found[pair][name] for name in numbers}
        assert got == pytest.approx(numbers, abs=1e-9), pair
    named = {name for name, phrase in seen}
    assert ranking.images == len(rows)
    assert ranking.unseen == sum(row[0] not in named for row in rows)


def planted() -> tuple[list[Prediction], list[tuple[str, str]]]:
    """Forty waterbirds: right on water (twenty, also seen as sea), wrong on land, half of them under a tree."""
    rows = [(f"bird {n:02}", 1, 1 if n < 20 else 0, 1.0 - n / 20) for n in range(40)]
    seen = [(f"bird {n:02}", phrase) for n in range(20) for phrase in ("water", "sea")]
    seen += [(f"bird {n:02}", "tree") for n in range(20, 30)]
    return rows, seen


def test_the_planted_pair_comes_first_and_its_synonym_is_one_row_with_it() -> None:
    rows, seen = planted()
    table = rank(predictions_table(rows), detections_table(seen), CLASSES).table
    shown = helping(table).to_pylist()
    assert [row["attribute"] for row in shown] == ["sea"]
    assert shown[0]["discrepancy"] == 1.0
    assert shown[0]["q_value"] < 1e-6
    assert shown[0]["confused_class"] == "landbird"
    followers = {row["attribute"]: row["same_as"] for row in table.to_pylist()}
    assert followers == {"sea": None, "water": "sea", "tree": None}


def test_overlapping_attributes_stay_apart_where_the_user_wants_them_apart() -> None:
    rows, seen = planted()
    table = rank(predictions_table(rows), detections_table(seen), CLASSES, RankSettings(same=None)).table
    assert [row["attribute"] for row in helping(table).to_pylist()] == ["sea", "water"]


def test_an_attribute_that_hurts_is_kept_and_shown_apart() -> None:
    rows, seen = planted()
    table = rank(predictions_table(rows), detections_table(seen), CLASSES).table
    assert [row["attribute"] for row in hurting(table).to_pylist()] == ["tree"]
    assert table["attribute"].to_pylist() == ["sea", "water", "tree"]


def test_telling_images_are_the_surest_right_with_and_the_surest_wrong_without() -> None:
    rows, seen = planted()
    table = rank(predictions_table(rows), detections_table(seen), CLASSES, RankSettings(telling=3)).table
    row = helping(table).to_pylist()[0]
    assert row["telling_with"] == ["bird 00", "bird 01", "bird 02"]
    assert row["telling_without"] == ["bird 39", "bird 38", "bird 37"]
    tree = hurting(table).to_pylist()[0]
    assert tree["telling_with"] == ["bird 29", "bird 28", "bird 27"]
    assert tree["telling_without"] == ["bird 00", "bird 01", "bird 02"]


def test_an_attribute_seen_on_fewer_images_than_the_least_count_is_no_pair() -> None:
    rows, seen = planted()
    table = rank(predictions_table(rows), detections_table(seen), CLASSES, RankSettings(min_count=11)).table
    assert sorted(table["attribute"].to_pylist()) == ["sea", "water"]


@pytest.mark.parametrize("low", [0.2, nan])
def test_a_detection_below_the_least_score_or_without_one_was_not_seen(low: float) -> None:
    rows, seen = planted()
    scores = [0.9 if phrase == "water" else low for _, phrase in seen]
    ranking = rank(predictions_table(rows), detections_table(seen, scores), CLASSES, RankSettings(min_score=0.5))
    assert ranking.table["attribute"].to_pylist() == ["water"]
    assert ranking.unseen == 20


def test_a_quarantined_image_counts_nowhere_and_the_table_says_how_many_there_are() -> None:
    rows, seen = planted()
    ranking = rank(predictions_table(rows), detections_table(seen), CLASSES, quarantined=["bird 00", "bird 39"])
    water = next(row for row in ranking.table.to_pylist() if row["attribute"] == "sea")
    assert (water["n_with"], water["n_without"]) == (19, 19)
    about = json.loads(ranking.table.schema.metadata[b"despur"])
    assert (about["images"], about["unseen"], about["quarantined"]) == (38, 9, 2)


def test_only_the_split_asked_for_is_counted_and_its_unpredicted_images_are_quarantined() -> None:
    rows, seen = planted()
    examples = pa.table(
        {"id": [row[0] for row in rows] + ["torn"], "split": ["train"] * 30 + ["test"] * 10 + ["train"]}
    )
    ranking = rank(
        predictions_table(rows), detections_table(seen), CLASSES, RankSettings(split="train"), examples=examples
    )
    assert (ranking.images, ranking.quarantined) == (30, 1)


def test_a_class_without_images_and_a_world_without_detections_give_an_empty_table() -> None:
    rows, _ = planted()
    ranking = rank(predictions_table(rows), detections_table([]), CLASSES)
    assert ranking.table.num_rows == 0
    assert ranking.unseen == 40


def test_two_predictions_for_one_image_are_refused() -> None:
    with pytest.raises(DataError, match="same id"):
        rank(predictions_table([("a", 0, 0, 1.0), ("a", 1, 0, 1.0)]), detections_table([]), CLASSES)


@pytest.mark.parametrize(
    ("label", "predicted", "told"), [(3, 0, "label 3"), (-1, 0, "label -1"), (0, 7, "predicted 7")]
)
def test_a_class_outside_the_classes_is_refused_and_not_miscounted(label: int, predicted: int, told: str) -> None:
    rows = [("a", label, predicted, 1.0), ("b", 0, 0, 1.0)]
    with pytest.raises(DataError, match=f"{told} is not among the 3 classes"):
        rank(predictions_table(rows), detections_table([("a", "sea")]), CLASSES)


def test_another_datasets_detections_are_told_and_not_counted_as_nothing_seen(tmp_path: Path) -> None:
    rows, _ = planted()
    others = detections_table([("elsewhere/1.jpg", "sea"), ("elsewhere/2.jpg", "tree")])
    with pytest.raises(DataError, match=r"none of the 2 detections.*elsewhere/1\.jpg"):
        rank(predictions_table(rows), others, CLASSES)
    some = detections_table([("elsewhere/1.jpg", "sea"), (rows[0][0], "tree")])
    assert rank(predictions_table(rows), some, CLASSES).unseen == 39


def test_detections_of_images_that_are_not_counted_leave_a_table_without_pairs() -> None:
    """The one image in which something was seen is quarantined: those left have nothing, which is no mistake."""
    rows, _ = planted()
    ranking = rank(predictions_table(rows), detections_table([(rows[0][0], "sea")]), CLASSES, quarantined=[rows[0][0]])
    assert (ranking.table.num_rows, ranking.unseen, ranking.quarantined) == (0, 39, 1)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    rows, _ = planted()
    damaged = tmp_path / "detections.parquet"
    damaged.write_bytes(b"PAR1 but nothing more")
    with pytest.raises(WorkspaceError, match=r"detections\.parquet"):
        rank(predictions_table(rows), damaged, CLASSES)


def test_a_table_without_a_column_that_is_needed_is_told(tmp_path: Path) -> None:
    rows, _ = planted()
    with pytest.raises(WorkspaceError, match="phrase"):
        rank(predictions_table(rows), pa.table({"id": ["bird 00"]}), CLASSES)


def test_a_file_cut_short_behind_its_head_is_told(tmp_path: Path) -> None:
    rows, seen = planted()
    path = tmp_path / "detections.parquet"
    pq.write_table(detections_table(seen), path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(WorkspaceError):
        rank(predictions_table(rows), path, CLASSES)


def test_tables_on_disk_and_in_memory_rank_the_same(tmp_path: Path) -> None:
    rows, seen = planted()
    pq.write_table(predictions_table(rows), tmp_path / "predictions.parquet")
    pq.write_table(detections_table(seen), tmp_path / "detections.parquet")
    on_disk = rank(tmp_path / "predictions.parquet", tmp_path / "detections.parquet", CLASSES)
    assert on_disk.table.equals(rank(predictions_table(rows), detections_table(seen), CLASSES).table)


@pytest.mark.parametrize("held", [0, 10**9])
def test_sightings_that_memory_does_not_hold_are_read_from_disk(held: int, tmp_path: Path) -> None:
    rows, seen = planted()
    found: list[Sightings] = []
    for bytes_held in (None, held):
        with duckdb.connect() as connection:
            population = read_population(connection, predictions_table(rows), len(CLASSES))
            found.append(
                read_sightings(
                    connection, detections_table(seen), population, len(CLASSES), held=bytes_held, spill=tmp_path
                )
            )
    in_memory, other = found
    assert isinstance(other.keys, KeyFile) == (held == 0)
    assert np.array_equal(other.bounds, in_memory.bounds)
    assert other.unseen == in_memory.unseen
    for label in range(len(CLASSES)):
        for column, expected in zip(other.of_class(label), in_memory.of_class(label), strict=True):
            assert np.array_equal(column, expected)


def test_ids_are_joined_themselves_where_two_have_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = planted()
    by_hash = rank(predictions_table(rows), detections_table(seen), CLASSES).table
    connect = duckdb.connect

    def colliding(**settings: Any) -> duckdb.DuckDBPyConnection:
        connection = connect(**settings)
        connection.execute("CREATE MACRO hash(text) AS length(text)")
        return connection

    monkeypatch.setattr(duckdb, "connect", colliding)
    assert rank(predictions_table(rows), detections_table(seen), CLASSES).table.equals(by_hash)


def test_too_little_memory_is_told_in_a_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows, seen = planted()
    with pytest.raises(SettingsError, match="too little to count"):
        rank(predictions_table(rows), detections_table(seen), CLASSES, memory="4kB", spill=tmp_path)
    assert not list(tmp_path.iterdir())


def test_top_rows_are_counted_for_each_class_by_itself() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{n}", n % 2, int(rng.integers(0, 2)), float(rng.normal())) for n in range(400)]
    seen = [(f"{n}", f"thing {t}") for n in range(400) for t in range(12) if rng.random() < 0.3]
    table = rank(predictions_table(rows), detections_table(seen), CLASSES, RankSettings(top=2)).table
    for side in (helping(table), hurting(table)):
        assert Counter(side["class"].to_pylist()) == {"landbird": 2, "waterbird": 2}


@pytest.mark.parametrize("same", [0.5, None])
def test_as_many_rows_are_shown_as_were_asked_for_however_few_are_compared(same: float | None) -> None:
    rows = [(f"{n:03}", 0, 0 if n < 20 else 1, 1.0) for n in range(80)]
    seen = [(f"{n:03}", f"thing {n:02}") for n in range(20)]
    settings = RankSettings(top=20, compared=3, min_count=1, same=same)
    assert helping(rank(predictions_table(rows), detections_table(seen), CLASSES, settings).table).num_rows == 20
