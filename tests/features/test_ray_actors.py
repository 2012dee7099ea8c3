"""Where actors run: shares of a GPU, a cluster that is joined, and what is refused before anybody waits."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Generator

import pytest

from despur.errors import SettingsError
from despur.features.ray_actors import Plan, RaySettings, Work, answers


def where_am_i() -> Work:
    """Answers with its process and the GPUs that it may see."""

    def work(plan: Plan) -> bytes:
        time.sleep(0.5)  # so that one actor alone does not do everything
        return json.dumps([plan["number"], os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]).encode()

    return work


@pytest.fixture
def by_value() -> Generator[None]:
    """Workers cannot import a test's module."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(SettingsError, match="no Ray cluster can be joined"):
        list(answers([{"number": 0}], where_am_i, RaySettings(address=f"127.0.0.1:{port}")))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("address", ["", "nowhere", "host:port", "http://host", "127.0.0.1:99999999", "host:٣"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"it is no HOST:PORT\); give --address"):
        list(answers([{"number": 0}], where_am_i, RaySettings(address=address)))


@pytest.mark.slow
def test_a_gpu_that_this_machine_has_not_is_refused_and_not_waited_for() -> None:
    with pytest.raises(SettingsError, match="1000 GPUs that an actor is to take"):
        list(answers([{"number": 0}], where_am_i, RaySettings(num_gpus=1000)))


@pytest.mark.slow
def test_two_actors_share_a_gpu_by_halves(by_value: None) -> None:
    import ray

    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        plans = [{"number": number} for number in range(8)]
        found = [json.loads(answer) for answer in answers(plans, where_am_i, RaySettings(actors=2, num_gpus=0.5))]
    finally:
        ray.shutdown()
    assert [number for number, _, _ in found] == list(range(8))
    assert len({process for _, process, _ in found}) == 2
    assert {visible for _, _, visible in found} == {"0"}


@pytest.mark.slow
def test_a_cluster_that_runs_is_joined_and_left_running(by_value: None) -> None:
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": 100 * 1024**2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            plans = [{"number": number} for number in range(3)]
            found = [json.loads(answer) for answer in answers(plans, where_am_i, RaySettings(address=cluster.address))]
            assert [number for number, _, _ in found] == [0, 1, 2]
            assert not ray.is_initialized()
    finally:
        cluster.shutdown()
