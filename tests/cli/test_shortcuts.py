"""``despur detect`` and ``despur rank`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from pydantic import BaseModel

from despur.cli import app
from despur.detect import DetectSettings
from despur.pipeline.settings import SearchSettings
from despur.rank import RankSettings
from despur.workspace import read_parquet


def test_detect_then_rank_ends_in_two_tables(own_work: Path, despur) -> None:
    detected = despur("detect", "-w", own_work, "--detector", "column")
    assert detected.exit_code == 0, detected.stderr
    ranked = despur("rank", "-w", own_work, "--min-count", 1)
    assert ranked.exit_code == 0, ranked.stderr
    assert "quarantined" in ranked.stdout
    assert "shortcut candidates" in ranked.stdout
    assert read_parquet(own_work / "discrepancies.parquet").num_rows == 2


def test_where_there_is_no_row_to_show_the_reason_is_told(own_work: Path, despur) -> None:
    despur("detect", "-w", own_work, "--detector", "column")
    assert "no attribute is seen in 1000 images" in despur("rank", "-w", own_work, "--min-count", 1000).stdout
    searched = pq.read_table(own_work / "detections.parquet")
    ids = read_parquet(own_work / "examples.parquet")["id"].to_pylist()
    rows = [{**searched.slice(0, 1).to_pylist()[0], "id": name} for name in ids]
    pq.write_table(pa.Table.from_pylist(rows, schema=searched.schema), own_work / "detections.parquet")
    ranked = despur("rank", "-w", own_work, "--min-count", 1)
    assert "each attribute is seen in all images of its class" in ranked.stdout
    assert "--min-count" not in ranked.stdout


def test_json_holds_the_rows_the_counts_and_the_telling_images(own_work: Path, despur) -> None:
    despur("detect", "-w", own_work, "--detector", "column")
    answer = json.loads(despur("rank", "-w", own_work, "--min-count", 1, "--json").stdout)
    assert answer["images"] == 119
    assert answer["pairs"] == 2
    rows = answer["helping"] + answer["hurting"]
    assert {row["attribute"] for row in rows} == {"water"}
    known = set(read_parquet(own_work / "examples.parquet")["id"].to_pylist())
    assert all(set(row["telling_with"] + row["telling_without"]) <= known for row in rows)


def test_what_is_up_to_date_is_not_computed_again(own_work: Path, despur) -> None:
    words = ("detect", "-w", own_work, "-d", "birdland:detector", "-v", "birdland", "--json")
    first, second = json.loads(despur(*words).stdout), json.loads(despur(*words).stdout)
    assert (first["computed"], second["computed"]) == (True, False)
    assert first["detections"] == second["detections"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("detect", "--detector", "owl-vit"), "did you mean 'owlvit'"),
        (("detect", "--vocabulary", "builtins"), "did you mean 'builtin'"),
        (("detect", "--threshold", "2"), "threshold"),
        (("detect", "--max-unreadable", "7"), "--max-unreadable"),
        (("rank",), "despur detect"),
        (("rank", "--order", "intervall"), "did you mean 'interval'"),
        (("rank", "--top", "0"), "top"),
        (("rank", "--rows", "-3"), "--rows"),
        (("detect", "--max-unreadable", "nan"), "--max-unreadable"),
        (("detect", "--vocabulary", "nonsense"), "birdland"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    words: tuple[str, ...], said: str, own_work: Path, despur
) -> None:
    result = despur(words[0], "-w", own_work, *words[1:])
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "settings"),
    [("detect", SearchSettings), ("detect", DetectSettings), ("rank", RankSettings)],
)
def test_a_shell_and_a_notebook_start_from_the_same_defaults(command: str, settings: type[BaseModel]) -> None:
    """The command line writes them again, because it imports no settings before it runs."""
    group: Any = typer.main.get_command(app)
    options = {option.name: option.default for option in group.commands[command].params}
    for name, field in settings.model_fields.items():
        if name in options and name != "vocabulary":
            assert options[name] == field.default, name
    assert len(options.keys() & settings.model_fields.keys()) >= 2


@pytest.mark.parametrize("command", ["detect", "rank"])
def test_help_shows_an_example(command: str, despur) -> None:
    assert f"despur {command} -w WORK" in despur(command, "--help").stdout
