"""The shell: mistyped names, narrow terminals, completion."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from despur.cli import app

COMMANDS = ("demo", "embed", "detect", "rank", "mitigate", "compare", "evaluate", "report", "export", "check")


def test_a_mistyped_command_is_answered_with_the_nearest(despur) -> None:
    result = despur("mitigte")
    assert result.exit_code == 2
    assert "'mitigate'" in result.stderr


def test_a_mistyped_option_is_answered_with_the_nearest(tmp_path: Path, despur) -> None:
    result = despur("evaluate", "-w", tmp_path, "--jsn")
    assert result.exit_code == 2
    assert "--json" in result.stderr


def test_a_mistyped_method_is_answered_with_the_nearest(own_work: Path, despur, refused) -> None:
    refused(despur("mitigate", "-w", own_work, "--method", "grup-dro"), "'grup-dro'", "'group-dro'")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_a_pipe_gets_no_colours(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "\x1b" not in shown.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands(shell: str) -> None:
    asked = {"_DESPUR_COMPLETE": f"complete_{shell}", "COMP_WORDS": "despur mit", "COMP_CWORD": "1"}
    asked |= {"_TYPER_COMPLETE_ARGS": "despur mit", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answered = CliRunner().invoke(app, [], env=asked, prog_name="despur")
    assert "mitigate" in answered.output
    assert "evaluate" not in answered.output
