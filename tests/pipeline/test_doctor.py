from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from despur.pipeline import doctor
from despur.pipeline.doctor import Finding, available_memory, examine


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_versions_device_cores_memory_and_disk_are_told(tmp_path: Path) -> None:
    found = by_name(examine(tmp_path / "not" / "there" / "yet"))
    assert found["torch"].found == metadata.version("torch")
    assert "cores" in found["processor"].found
    assert {"device", "memory", f"disk at {tmp_path / 'not' / 'there' / 'yet'}"} <= set(found)
    assert "hub" not in found
    assert not [finding for finding in found.values() if finding.state == "problem"]


def test_a_missing_package_is_a_problem_and_a_missing_extra_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = ["torch>=2", "surely-not-there[x]>=1; python_version > '3'", 'no-hub-here>=3; extra == "hf"']
    needs += ['Pillow>=10; extra == "scale"', 'nobody-tests>=1; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda _: needs)
    found = by_name(examine(tmp_path))
    assert found["surely-not-there"].state == "problem"
    assert found["surely-not-there"].advice == "pip install surely-not-there"
    assert (found["extra [hf]"].state, found["extra [hf]"].advice) == ("note", "pip install 'despur[hf]'")
    assert found["extra [scale]"].found == f"Pillow {metadata.version('Pillow')}"
    assert not {"extra [dev]", "nobody-tests"} & set(found)


def test_the_memory_of_a_container_is_the_smaller_of_the_machines_and_its_own(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert available_memory(tmp_path) == 4000 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == 4000 * 1024
    (group / "memory.max").write_text("51000\n")
    assert available_memory(tmp_path) == 50000
    assert available_memory(tmp_path / "elsewhere") is None


def test_little_room_is_noted_with_what_to_do() -> None:
    assert doctor._room("memory", 2 * 1024**3, "close") == Finding("memory", "2.0 GB free", "note", "close")
    assert doctor._room("memory", 20 * 1024**3, "close").state == "ok"


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403 if self.path == "/private" else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tests stay quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_hub_is_asked_where_the_environment_says_it_is(address: str) -> None:
    assert doctor._hub({"HF_ENDPOINT": address}) == Finding("hub", f"{address} answers")
    assert "answers (status 403)" in doctor._hub({"HF_ENDPOINT": f"{address}/private"}).found


def test_a_hub_that_does_not_answer_is_no_problem_where_weights_are_on_disk() -> None:
    silent = doctor._hub({"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert (silent.state, "does not answer" in silent.found) == ("note", True)
    assert "open_clip:ARCH/FILE" in silent.advice
    assert doctor._hub({"HF_HUB_OFFLINE": "1"}).found == "not asked: HF_HUB_OFFLINE is set"
    assert doctor._hub({"HF_ENDPOINT": "file:///etc/passwd"}).state == "problem"
