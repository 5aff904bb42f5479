"""The one Ray of the tests: a head on the loopback, with the dashboard that jobs are submitted to."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running(num_cpus: int) -> Iterator[None]:
    """Start it, and stop it in the end."""
    import os

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

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


def dashboard() -> str:
    """Address for submitting jobs."""
    from ray._private.worker import get_dashboard_url

    return f"http://{get_dashboard_url()}"
