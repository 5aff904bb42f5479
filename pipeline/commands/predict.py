"""`cxr-ssl predict`: what a run's latest model says of a pool; see `pipeline.predict`."""

from pathlib import Path
from typing import Any

from pipeline.predict import predict_pool
from pipeline.runtime.progress import Progress


def predict(run: Path, pool: str, out: str, overrides: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Predict the scans of a pool; see `predict_pool.predict`."""
    with Progress(quiet=quiet) as progress:
        return predict_pool.predict(run, pool, out, overrides, progress)
