from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from despur.errors import WorkspaceError
from despur.workspace import (
    SCHEMA_VERSION,
    StageRecord,
    Workspace,
    fingerprint,
    fingerprint_file,
    read_json,
    read_parquet,
    versions,
    whole_folder,
    write_json,
    write_parquet,
    write_whole,
)

RECORD = StageRecord(settings={"batch": 8}, inputs="ab12", versions={"python": "3.11"}, seed=None, seconds=1.5)


# --- the folder


def test_a_created_workspace_opens_with_its_specs(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "work", dataset="waterbirds:birds", model="open_clip:RN50/openai")
    about = Workspace.open(tmp_path / "work").about()
    assert about == {
        "schema": SCHEMA_VERSION,
        "dataset": "waterbirds:birds",
        "model": "open_clip:RN50/openai",
        "stages": {},
    }


def test_creating_again_keeps_what_is_there_and_updates_only_the_specs_given(tmp_path: Path) -> None:
    first = Workspace.create(tmp_path, dataset="folder:a", model="birdland")
    first.save_record("embed", RECORD)
    second = Workspace.create(tmp_path, dataset="folder:b")
    about = second.about()
    assert (about["dataset"], about["model"]) == ("folder:b", "birdland")
    assert second.record("embed") == RECORD


def test_a_stage_that_has_not_finished_has_no_record(tmp_path: Path) -> None:
    assert Workspace.create(tmp_path).record("rank") is None


def test_a_folder_without_a_workspace_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"no workspace here.*despur embed"):
        Workspace.open(tmp_path)


def test_a_file_in_the_workspaces_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(WorkspaceError, match="a file is in its place"):
        Workspace.create(tmp_path / "work")


@pytest.mark.parametrize("name", ["a\udcff", "a\0b"])
def test_a_path_that_no_table_can_be_written_under_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    for begin in (Workspace.create, Workspace.open):
        with pytest.raises(WorkspaceError, match="its path is not UTF-8, or leads nowhere; name another folder"):
            begin(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_path_that_the_system_refuses_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="it cannot be looked into"):
        Workspace.open(tmp_path / ("x" * 300))


def test_a_tilde_before_an_unknown_name_is_a_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Workspace.create("~nobody-of-that-name")
    assert Workspace.open(tmp_path / "~nobody-of-that-name").root.is_dir()


def test_a_newer_schema_is_refused_with_the_version_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text('{"schema": 9, "read_by": "2.3", "unknown": true}')
    with pytest.raises(WorkspaceError, match=r"schema is 9.*despur 2\.3 or later"):
        Workspace.open(tmp_path)
    with pytest.raises(WorkspaceError, match=r"despur 2\.3"):
        Workspace.create(tmp_path)


def test_a_workspace_says_which_version_reads_it(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    assert json.loads((tmp_path / "workspace.json").read_text())["read_by"] == "0.1"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "stages": {"embed": 3}}', "\x00"]
)
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "workspace.json").write_text(text)
    with pytest.raises(WorkspaceError, match=r"workspace\.json: it is damaged.*delete it"):
        Workspace.open(tmp_path)


def test_a_path_stays_in_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    assert workspace.path("runs", "clip", "metrics.json") == tmp_path / "runs" / "clip" / "metrics.json"
    for parts in [("runs", "../../etc"), ("/etc/passwd",)]:
        with pytest.raises(WorkspaceError, match="leads out of the workspace"):
            workspace.path(*parts)


# --- whole files


def _break_off(target: Path, error: Exception) -> None:
    with write_whole(target) as temporary:
        temporary.write_text("half of the n")
        raise error


def test_a_file_replaces_the_old_one_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "notes.txt"
    with write_whole(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("old")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="power cut"):
        _break_off(target, RuntimeError("power cut"))
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"shard\.bin: it cannot be written \(no space left"):
        _break_off(tmp_path / "shard.bin", OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=25, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.getbasetemp() / "value.json"
    write_json(file, value)
    assert read_json(file) == value


def test_parquet_comes_back_as_it_was_and_in_the_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "score": pa.array([0.5, None], pa.float32())})
    table = table.replace_schema_metadata({"despur": "{}"})
    # A folder called like a partition must not become a column.
    file = tmp_path / "runs" / "lr=1e-5" / "history.parquet"
    write_parquet(file, table)
    first = file.read_bytes()
    write_parquet(file, table)
    assert read_parquet(file).equals(table, check_metadata=True)
    assert file.read_bytes() == first


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cut.parquet", pa.table({"id": [str(number) for number in range(999)]}))
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.json").write_text("{'id': 1}")
    for read, name in [(read_parquet, "cut.parquet"), (read_json, "text.json")]:
        with pytest.raises(WorkspaceError, match=rf"{name}: it is damaged.*delete it and run the stage"):
            read(tmp_path / name)
    for read in (read_parquet, read_json):
        with pytest.raises(WorkspaceError, match="absent: it does not exist; run the stage"):
            read(tmp_path / "absent")


# --- fingerprints

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
)
SETTINGS = st.dictionaries(st.text(max_size=5), PLAIN | st.lists(PLAIN, max_size=3), max_size=5)


@settings(deadline=None)
@given(SETTINGS)
def test_the_order_of_keys_does_not_change_a_fingerprint(chosen: dict[str, object]) -> None:
    backwards = dict(reversed(chosen.items()))
    assert fingerprint({"inner": chosen}) == fingerprint({"inner": backwards})


def _kind(value: object) -> object:
    """Python's == takes 1, 1.0 and True for one value, and -0.0 for 0.0; settings do not."""
    if isinstance(value, dict):
        return {key: _kind(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kind(inner) for inner in value]
    return type(value).__name__, repr(value)


@settings(deadline=None)
@given(SETTINGS, SETTINGS)
def test_different_settings_have_different_fingerprints(one: dict[str, object], other: dict[str, object]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (_kind(one) == _kind(other))


@settings(deadline=None)
@given(SETTINGS, st.data())
def test_any_change_of_one_value_changes_a_fingerprint(chosen: dict[str, object], data: st.DataObject) -> None:
    key = data.draw(st.text(max_size=5))
    value = data.draw(PLAIN)
    changed = {**chosen, key: value}
    if _kind(changed) != _kind(chosen):
        assert fingerprint(changed) != fingerprint(chosen)


def test_parts_do_not_run_into_each_other() -> None:
    prints = [
        fingerprint("ab", "c"),
        fingerprint("a", "bc"),
        fingerprint("abc"),
        fingerprint(b"abc"),
        fingerprint(["ab", "c"]),
        fingerprint(),
    ]
    assert len(set(prints)) == len(prints)


def test_a_model_and_a_path_count_by_their_content(tmp_path: Path) -> None:
    assert fingerprint(RECORD) == fingerprint(RECORD.model_dump())
    assert fingerprint(tmp_path) == fingerprint(str(tmp_path))


def test_what_has_no_canonical_form_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="object"):
        fingerprint({"what": object()})


def test_a_file_counts_by_its_content_alone(tmp_path: Path) -> None:
    for name, content in [("a", b"same"), ("b", b"same"), ("c", b"samf")]:
        (tmp_path / name).write_bytes(content)
    one, two, three = (fingerprint_file(tmp_path / name) for name in "abc")
    assert one == two != three


def test_versions_name_python_and_despur_without_importing_anything_heavy() -> None:
    code = "import sys, despur.workspace as w; w.versions(); print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert {"python", "despur", "torch"} <= set(versions())


# --- the lock

HOLD = """
import sys
from despur.workspace import Workspace, write_whole
workspace = Workspace.open(sys.argv[1])
with workspace.lock(), write_whole(workspace.path("shard.bin")) as temporary:
    temporary.write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of the workspace ``tmp_path`` amid writing shard.bin, until told to go on."""
    Workspace.create(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_has_the_workspace(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    waits: list[str] = []
    lock = Workspace.open(tmp_path).lock(timeout=0.1, on_wait=lambda: waits.append("waiting"))
    with pytest.raises(WorkspaceError, match=rf"process {holder.pid} on .* using this workspace for over 0\.1 seconds"):
        lock.__enter__()
    assert waits == ["waiting"]


def test_whoever_asks_is_told_which_process_works_here_now(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    workspace = Workspace.open(tmp_path)
    assert workspace.in_use_by().startswith(f"process {holder.pid} on ")
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock.holder").exists()  # left behind, and no sign of anybody
    assert workspace.in_use_by() is None


def test_nobody_works_in_a_workspace_that_was_let_go_or_is_gone(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "work")
    assert workspace.in_use_by() is None
    with workspace.lock():
        assert workspace.in_use_by().startswith("process ")
    assert workspace.in_use_by() is None
    shutil.rmtree(workspace.root)
    assert workspace.in_use_by() is None


def test_a_second_process_waits_until_the_first_is_done(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    def let_go() -> None:
        holder.stdin.write("go on\n")
        holder.stdin.flush()

    with Workspace.open(tmp_path).lock(timeout=60, on_wait=let_go):
        assert (tmp_path / "shard.bin").read_bytes() == b"half"


def test_a_killed_process_leaves_no_lock_and_no_half_file(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert len(list(tmp_path.glob(".shard.*.partial.bin"))) == 1
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Workspace.open(tmp_path).lock(timeout=60):
        assert list(tmp_path.glob("*shard*")) == []


def test_a_half_written_folder_of_a_killed_export_is_cleared_away(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    (tmp_path / ".out.1234abcd.partial").mkdir()
    (tmp_path / ".out.1234abcd.partial" / ".card.1234abcd.partial.md").write_text("half")
    with workspace.lock():
        assert list(tmp_path.glob(".out*")) == []


def test_a_half_written_folder_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    with whole_folder(tmp_path / "out") as temporary:
        with workspace.lock():
            assert temporary.is_dir()
        with whole_folder(tmp_path / "out") as other:
            (other / "card.md").write_text("mine")
        assert temporary.is_dir()
        (tmp_path / "out" / "card.md").unlink()
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]


def test_what_a_killed_process_left_of_a_folder_goes_when_the_next_writes_it(tmp_path: Path) -> None:
    left = tmp_path / ".out.1234abcd.partial"
    left.mkdir()
    (left / "weights.bin").write_text("half")
    left.with_name(left.name + ".lock").touch()
    (tmp_path / ".out.5678abcd.partial.lock").touch()  # killed after the folder had gone to its place
    other = tmp_path / ".out.v2.1234abcd.partial"
    other.mkdir()
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "weights.bin").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "out"]


def test_what_was_left_half_written_in_a_linked_folder_is_cleared_away(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "work")
    (tmp_path / "disk").mkdir()
    workspace.path("features").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / ".texts.1234abcd.partial.safetensors").write_bytes(b"half")
    with workspace.lock():
        assert list((tmp_path / "disk").iterdir()) == []


def test_a_note_of_who_holds_the_lock_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    (tmp_path / ".lock.holder").mkdir()
    with pytest.raises(WorkspaceError, match=r"\.lock\.holder: it cannot be written"), workspace.lock():
        pass
    (tmp_path / ".lock.holder").rmdir()
    (tmp_path / ".lock.holder").write_text("another user's")
    (tmp_path / ".lock.holder").chmod(0o400)
    with workspace.lock():
        assert "process" in (tmp_path / ".lock.holder").read_text()


def test_whoever_holds_the_lock_may_enter_it_again(tmp_path: Path) -> None:
    one, same = Workspace.create(tmp_path), Workspace.open(tmp_path)
    with one.lock(), same.lock(timeout=0), write_whole(one.path("file")) as temporary:
        same.save_record("embed", RECORD)
        temporary.write_text("not swept away by the lock that was entered again")
    assert one.record("embed") == RECORD
    assert not (tmp_path / ".lock.holder").exists()
