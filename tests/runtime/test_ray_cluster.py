"""Addresses of clusters: what cannot be joined is told before Ray is asked, which would wait for minutes."""

import socket
import threading
from contextlib import suppress

import pytest

from pipeline.commands import doctor
from pipeline.contracts.errors import EngineError, InputError
from pipeline.runtime import ray_cluster, ray_nodes
from pipeline.runtime.ray_cluster import answering
from tests.support.tiny import call

SETTINGS_FRAME = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.fixture
def server():
    """A port whose listener gives one answer, then waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answering_with(data):
            def serve():
                with listening.accept()[0] as connection, suppress(OSError):  # the other side hangs up
                    connection.recv(64)
                    connection.sendall(data)
                    connection.recv(64)

            if data is not None:
                threading.Thread(target=serve, daemon=True).start()
            return f"127.0.0.1:{listening.getsockname()[1]}"

        yield answering_with


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_the_head_of_a_cluster_answers(server, scheme):
    address = scheme + server(SETTINGS_FRAME)
    assert answering(address) == address
    assert answering("local") == "local"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_told(scheme):
    address = f"{scheme}127.0.0.1:{closed_port()}"
    with pytest.raises(EngineError, match=r"RAY_ADDRESS: no cluster answers .*unset it") as caught:
        answering(address)
    assert caught.value.value == address


def test_another_program_is_no_cluster_nor_is_one_that_hangs(server, monkeypatch):
    with pytest.raises(EngineError, match="what listens there is not the head of a Ray cluster"):
        answering(server(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    monkeypatch.setattr(ray_cluster, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(EngineError, match="no cluster answers"):
        answering(server(None))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "jobs are submitted to.*cxr-ssl submit"),
        ("head-node", "is no address of a cluster"),
        ("head-node:six", "is no address of a cluster"),
    ],
)
def test_what_no_program_can_join_is_refused(address, message):
    with pytest.raises(InputError, match=message) as caught:
        answering(address)
    assert (caught.value.where, caught.value.value) == ("RAY_ADDRESS", address)


def test_a_cluster_that_is_gone_is_told_before_a_pool_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port()}")
    answer = call("embed", tmp_path / "no-such-pool", "--out", tmp_path / "out")
    assert answer.code == 1 and "RAY_ADDRESS: no cluster answers" in answer.message
    assert not (tmp_path / "out").exists()
    row = doctor._cluster()
    assert not row["ok"] and "no cluster answers" in row["found"] and "unset it" in row["advice"]
    answer = call("embed", tmp_path / "no-such-pool", "--out", tmp_path / "out", "--set", "engine.backend=serial")
    assert answer.code == 2 and "no-such-pool" in answer.message  # where no Ray is wanted, its address is nobody's


def test_auto_without_a_cluster_is_told(monkeypatch):
    def none_runs(address):
        raise ConnectionError("Could not find any running Ray instance. Please …")

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", none_runs)
    with pytest.raises(EngineError, match=r"auto: Could not find any running Ray instance\. Start one"):
        answering("auto")


def test_a_node_without_the_package_is_told():
    lack = {"10.0.0.2": "", "10.0.0.3": "package: No module named 'pyarrow'", "10.0.0.4": "/shared/run"}
    with pytest.raises(EngineError, match=r"node 10\.0\.0\.3 and 1 more: cannot import .*'pyarrow'.*every node"):
        ray_nodes.refuse_lack(lack)
    with pytest.raises(EngineError, match=r"node 10\.0\.0\.4: cannot see a path .*'/shared/run'.*CXR_SSL_CACHE"):
        ray_nodes.refuse_lack({"10.0.0.4": "/shared/run"})
    ray_nodes.refuse_lack({"10.0.0.2": ""})
