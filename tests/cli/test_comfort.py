"""The shell: mistyped names, narrow terminals, completion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from despur.cli import app


class Command(NamedTuple):
    """A command's words, and its long options."""

    path: tuple[str, ...]
    options: list[str]


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[Command]:
    """Every command of the tree."""
    inner = getattr(command, "commands", {})
    for name in inner:
        yield from _commands(inner[name], (*path, name))
    if not inner:
        names = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
        yield Command(path, [name for name in names if name.startswith("--")])


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


def test_help_shows_every_option_in_full_at_80_columns() -> None:
    cut: list[str] = []
    for command in _commands(typer.main.get_command(app), ()):
        shown = CliRunner().invoke(app, [*command.path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
        cut += [
            f"{' '.join(command.path)} {name}"
            for name in command.options
            if not re.search(rf"{re.escape(name)}(?![\w-])", shown)
        ]
    assert not cut


@pytest.mark.parametrize("command", ["run", "explain"])
def test_paragraphs_of_help_are_broken_where_the_terminal_ends(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    told = "\n".join(line.rstrip() for line in shown.partition("╭")[0].splitlines())
    for paragraph in (one for one in told.strip().split("\n\n") if "Example" not in one):
        for line, after in pairwise(paragraph.splitlines()):
            assert len(line.rstrip()) + 1 + len(after.split()[0]) > 78, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_commands(shell: str) -> None:
    asked = {"_DESPUR_COMPLETE": f"complete_{shell}", "COMP_WORDS": "despur mit", "COMP_CWORD": "1"}
    asked |= {"_TYPER_COMPLETE_ARGS": "despur mit", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answered = CliRunner().invoke(app, [], env=asked, prog_name="despur")
    assert "mitigate" in answered.output
    assert "evaluate" not in answered.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_what_can_be_reproduced(shell: str) -> None:
    from despur.cli.reproduce import PARTS
    from despur.reproduce import reproduction

    assert (*reproduction.PARTS, "all") == PARTS
    asked = {"_DESPUR_COMPLETE": f"complete_{shell}", "COMP_WORDS": "despur reproduce fig", "COMP_CWORD": "2"}
    asked |= {"_TYPER_COMPLETE_ARGS": "despur reproduce fig", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answered = CliRunner().invoke(app, [], env=asked, prog_name="despur")
    assert "figure3" in answered.output
    assert "table1" not in answered.output
