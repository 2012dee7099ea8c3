"""What every command shares: errors as one sentence, progress on stderr, one JSON object on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from inspect import cleandoc
from typing import Any, ParamSpec, TypeVar

from despur.errors import DespurError

P = ParamSpec("P")
T = TypeVar("T")

SHOW_AFTER = 2.0
"""Seconds of work before a progress bar appears."""

LOG_EVERY = 10.0
"""Seconds between progress lines where stderr is not a terminal."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn a problem that the user can act on into one sentence and exit status 2; ``--debug`` shows the traceback."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except DespurError as problem:
            if kwargs.get("debug"):
                raise
            say(f"despur: {problem}")
            sys.exit(2)
        except KeyboardInterrupt:
            say("despur: stopped; the same command goes on from here")
            sys.exit(INTERRUPTED)

    guarded.__doc__ = _flowing(function.__doc__ or "")
    return guarded


def _flowing(text: str) -> str:
    """A docstring whose paragraphs are a line each, so that help breaks them where the terminal does; examples stay."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(one if one.startswith("Example") else " ".join(one.split()) for one in paragraphs)


def say(line: str) -> None:
    """A line for a person, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def show(value: Any, *, as_json: bool, text: Callable[[], Any]) -> None:
    """A command's result: one JSON object on stdout, or what ``text`` makes (a string or a Rich renderable)."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
        return
    made = text()
    if isinstance(made, str):
        sys.stdout.write(made + "\n")
        return
    from rich.console import Console

    Console().print(made)


def bar(steps: Iterable[T], *, total: int, label: str, unit: str = "steps", each: int = 1) -> Iterator[T]:
    """A bar with a rate and a remaining time, once the work has taken two seconds; plain lines in a log file."""
    if sys.stderr.isatty():
        yield from _rich_bar(steps, total=total, label=label, unit=unit, each=each)
    else:
        yield from _log_lines(steps, total=total, label=label, unit=unit, each=each)


def _rich_bar(steps: Iterable[T], *, total: int, label: str, unit: str, each: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    started = time.monotonic()
    done = 0
    shown: Progress | None = None
    task = None
    try:
        for step in steps:
            yield step
            done = min(total, done + each)
            elapsed = time.monotonic() - started
            if shown is None and elapsed > SHOW_AFTER:
                shown = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}, {task.fields[rate]}/s"),
                    TimeRemainingColumn(),
                    console=Console(stderr=True),
                    transient=True,
                )
                shown.start()
                task = shown.add_task(label, total=total, completed=done, unit=unit, rate="")
            if shown is not None and task is not None:
                shown.update(task, completed=done, rate=f"{done / elapsed:.3g}")
    finally:
        if shown is not None:
            shown.stop()


def _log_lines(steps: Iterable[T], *, total: int, label: str, unit: str, each: int) -> Iterator[T]:
    started = time.monotonic()
    last = started
    done = 0
    for step in steps:
        yield step
        done = min(total, done + each)
        now = time.monotonic()
        if now - last > LOG_EVERY and done < total:
            last = now
            rate = done / (now - started)
            say(f"{label}: {done}/{total} {unit}, {rate:.3g}/s, {(total - done) / rate:.0f} s left")
