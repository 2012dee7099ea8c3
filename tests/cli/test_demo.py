"""The demo, whole: what it finds, what it repairs, and that it needs no network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from despur.cli import app


def refused(*_: Any, **__: Any) -> None:
    raise AssertionError("the demo opened a connection")


@pytest.mark.slow
def test_the_quick_demo_finds_what_was_planted_and_ends_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    result = CliRunner().invoke(app, ["demo", str(tmp_path / "demo"), "--quick", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [pair["place"] for pair in told["shortcuts"]["planted"]] == [1, 1, 1]
    assert told["shortcuts"]["missed"] == []
    rows = {row["method"]: row for row in told["rows"]}
    assert {row["model"] for row in told["rows"]} == {"birdland:resnet"}
    assert rows["pretrained"]["worst_group"] < 0.6 < rows["group-dro"]["worst_group"]
    assert "<html" in Path(told["report"]).read_text(encoding="utf-8")
