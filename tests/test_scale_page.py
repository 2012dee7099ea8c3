"""The cluster files of docs/scale.md: what they say fits together, and their commands exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

from despur.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")


def files() -> list[Any]:
    return [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)]


def aws() -> Any:
    return files()[0]


def kubernetes() -> Any:
    return files()[1]


def options_of(command: Any) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


def check_despur(line: str) -> dict[str, str]:
    """Refuse a command of despur that does not exist as it is written; returns its options."""
    words = shlex.split(line)
    assert words[0] == "despur"
    command = get_command(app).commands[words[1]]  # pyright: ignore
    given = [number for number, word in enumerate(words) if word.startswith("-")]
    assert {words[number] for number in given} <= options_of(command), line
    return {words[number]: words[number + 1] for number in given}


def ray_lines() -> list[str]:
    started = [line for name in ("head", "worker") for line in aws()[f"{name}_start_ray_commands"]]
    return re.findall(r"^ {4}(ray .+)$", PAGE, flags=re.MULTILINE) + started


def test_the_cluster_of_aws_is_one_by_rays_own_schema() -> None:
    ray = pytest.importorskip("ray")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(aws(), schema)
    assert aws()["head_node_type"] in aws()["available_node_types"]


def test_every_command_of_ray_on_the_page_exists() -> None:
    scripts = pytest.importorskip("ray.scripts.scripts")
    lines = ray_lines()
    assert len(lines) == 10
    for line in lines:
        words = shlex.split(line)
        command = scripts.cli.commands[words[1]]
        options = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        assert options <= options_of(command), line


def test_what_runs_on_the_clusters_are_commands_of_despur() -> None:
    inside = [shlex.split(line)[-1] for line in ray_lines() if line.startswith("ray exec")]
    entries = [*inside, kubernetes()["spec"]["entrypoint"]]
    assert len(entries) == 3
    for line in entries:
        options = check_despur(line)
        assert options["--engine"] == "ray"
        assert options["--address"] == "auto"


def test_the_actors_of_kubernetes_fill_its_workers() -> None:
    """As many GPUs as their shares add up to, and no node is asked for more processors than it has."""
    spec = kubernetes()["spec"]
    options = check_despur(spec["entrypoint"])
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    gpus = group["replicas"] * int(limits["nvidia.com/gpu"])
    assert int(options["--actors"]) * float(options["--num-gpus"]) == gpus
    on_each = int(options["--actors"]) / group["replicas"]
    assert on_each * float(options["--num-cpus"]) <= int(limits["cpu"])
    assert kubernetes()["kind"] == "RayJob"


def test_every_pod_runs_one_image_and_sees_the_study() -> None:
    spec = kubernetes()["spec"]["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        claimed = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == claimed == {"study"}
