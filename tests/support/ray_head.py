"""The one Ray of the tests: a head on the loopback, with the dashboard that jobs are submitted to."""

import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def running(num_cpus: int) -> Iterator[None]:
    """Start it, and stop it in the end."""
    import os

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray._private import parameter

    # Jobs go through an agent that listens on one port of the machine, which the Ray of another test, or of somebody
    # else, may hold; `ray.init` has no option for another.
    with mock.patch.object(
        parameter, "RayParams", functools.partial(parameter.RayParams, dashboard_agent_listen_port=_free_port())
    ):
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def dashboard() -> str:
    """Address for submitting jobs."""
    from ray._private.worker import get_dashboard_url

    return f"http://{get_dashboard_url()}"
