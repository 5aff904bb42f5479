"""`cxr-ssl predict` and `cxr-ssl monitor`: what a run's latest model says of a pool, and whether it still may."""

from pathlib import Path
from typing import Any

from pipeline.predict import predict_pool
from pipeline.runtime.progress import Progress


def predict(run: Path, pool: str, out: str, overrides: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Predict the scans of a pool; see `predict_pool.predict`."""
    with Progress(quiet=quiet) as progress:
        return predict_pool.predict(run, pool, out, overrides, progress)


def monitor(run: Path, pool: str, out: Path, overrides: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Hold the scans of a pool against the run's own; see `monitor_pool.monitor`."""
    from pipeline.monitor import monitor_pool  # here, because it draws charts, which take long to import

    with Progress(quiet=quiet) as progress:
        return monitor_pool.monitor(run, pool, out, overrides, progress)
