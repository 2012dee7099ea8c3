"""Why two workspaces differ: what was chosen, read, drawn and installed by stage, and which files came out other.

Everything is read from ``workspace.json`` and the files themselves; nothing is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from despur.errors import WorkspaceError
from despur.pipeline.order import in_order
from despur.workspace import About, StageRecord, Workspace, fingerprint, fingerprint_file, read_json

Kind = Literal["study", "stage", "setting", "seed", "version", "machine", "inputs", "file"]

UNEQUAL_BY_NATURE = ("workspace.json", "report.html", "verdicts.sqlite")
"""Files that hold times of day, or are drawn from the others."""

SECONDS = "seconds"
"""Entries of JSON files that say how long something took; they differ between any two runs."""


@dataclass(frozen=True)
class Difference:
    """One thing in which two workspaces are not the same.

    Attributes:
        kind: ``study`` (the specs), ``stage`` (only one has it), ``setting``, ``seed``, ``version``, ``machine``,
            ``inputs`` (what the stage read) or ``file``.
        stage: which stage; None for specs and files.
        name: of the setting, package or file.
        a: what the first workspace has, as JSON has it; None: nothing.
        b: what the second has.
    """

    kind: Kind
    stage: str | None
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Comparison:
    """All differences, causes before effects, and one sentence that says what they amount to."""

    differences: tuple[Difference, ...]
    verdict: str


def compare_workspaces(a: Workspace, b: Workspace) -> Comparison:
    """Say in what, and from which stage on, two workspaces differ.

    Raises:
        WorkspaceError: one of them is damaged, or a file of it cannot be read.
    """
    about_a, about_b = a.about(), b.about()
    causes = (*_specs(about_a, about_b), *_stages(about_a["stages"], about_b["stages"]))
    files = tuple(_files(a.root, b.root))
    return Comparison((*causes, *files), _verdict(causes, files))


def _specs(a: About, b: About) -> Iterator[Difference]:
    for name in ("dataset", "model"):
        if a[name] != b[name]:
            yield Difference("study", None, name, a[name], b[name])


def _stages(a: Mapping[str, StageRecord], b: Mapping[str, StageRecord]) -> Iterator[Difference]:
    for stage in in_order([*a, *b]):
        mine, other = a.get(stage), b.get(stage)
        if mine is None or other is None:
            words = ["finished" if record is not None else None for record in (mine, other)]
            yield Difference("stage", stage, stage, *words)
        else:
            yield from _records(stage, mine, other)


def _records(stage: str, a: StageRecord, b: StageRecord) -> Iterator[Difference]:
    settings = list(_entries("setting", stage, dict(_leaves(a.settings)), dict(_leaves(b.settings))))
    yield from settings
    if a.effort and b.effort:  # a workspace of an earlier despur does not say
        yield from _entries("setting", stage, a.effort, b.effort)
    if a.seed != b.seed:
        yield Difference("seed", stage, "seed", a.seed, b.seed)
    yield from _entries("version", stage, a.versions, b.versions)
    if a.machine and b.machine:  # a workspace of an earlier despur does not say
        yield from _entries("machine", stage, a.machine, b.machine)
    # The fingerprint covers the settings too: where those differ it says nothing of what was read.
    if a.inputs != b.inputs and not settings:
        yield Difference("inputs", stage, "inputs", a.inputs, b.inputs)


def _entries(kind: Kind, stage: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield Difference(kind, stage, name, a.get(name), b.get(name))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Settings within settings by their dotted names."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value


def _files(a: Path, b: Path) -> Iterator[Difference]:
    mine, other = _contents(a), _contents(b)
    for name in sorted({*mine, *other}):
        if mine.get(name) != other.get(name):
            yield Difference("file", None, name, mine.get(name), other.get(name))


def _contents(root: Path) -> dict[str, str]:
    """A fingerprint of each result by its place; JSON counts without the seconds that something took."""
    found: dict[str, str] = {}
    for file in sorted(_files_below(root, ())):
        place = file.relative_to(root)
        hidden = any(part.startswith(".") for part in place.parts)
        if hidden or not file.is_file() or place.as_posix() in UNEQUAL_BY_NATURE or _is_note(place):
            continue
        try:
            whole = file.suffix != ".json"
            found[place.as_posix()] = fingerprint_file(file) if whole else fingerprint(_timeless(read_json(file)))
        except OSError as error:
            raise WorkspaceError("it cannot be read", where=file, now="check the disk and who owns it") from error
    return found


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Everything in a folder that is none itself; folders that are linked, as to a larger disk, are gone into.

    Args:
        above: the folders that it lies in, which a link may lead back to.
    """
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise WorkspaceError("it cannot be read", where=folder, now="check the disk and who owns it") from error
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(entry, (*above, real))
        else:
            yield entry


def _is_note(place: Path) -> bool:
    """Whether a file only says what the shard beside it was computed from."""
    return place.suffix == ".json" and place.name.startswith("shard-")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key != SECONDS}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _verdict(causes: tuple[Difference, ...], files: tuple[Difference, ...]) -> str:
    staged = [cause for cause in causes if cause.stage is not None]
    if not files:
        return "the results are the same" + (" although the runs were not" if causes else "")
    if not staged:
        return (
            f"{_count(files)}, and no setting, input, seed, version or machine does: a file was changed"
            " (see: despur repair)"
        )
    first = staged[0].stage
    reasons = dict.fromkeys(_reason(cause) for cause in staged if cause.stage == first)
    return f"{_count(files)}; the first cause is in {first}: {', '.join(reasons)}"


def _count(files: tuple[Difference, ...]) -> str:
    return f"{len(files)} file differs" if len(files) == 1 else f"{len(files)} files differ"


def _reason(cause: Difference) -> str:
    if cause.kind == "inputs":
        return "it read other images, tables or weights" if cause.stage == "embed" else "it read other files"
    if cause.kind == "stage":
        return "only one of them has it"
    return f"{cause.kind} {cause.name}" if cause.kind != "seed" else "the seed"
