"""What MLflow and TensorBoard are told of a run: its options, its metrics round by round, its report.

Neither is imported unless `track.mlflow` or `track.tensorboard` asks for it, and their trouble never ends a run.
"""

import importlib.util
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.contracts import tables
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.runtime import finding_folders, run_dir, run_files

log = logging.getLogger(__name__)

EXPERIMENT = "cxr-ssl"
MAX_PARAMS = 100  # a request of MLflow
MLFLOW_STATES = {"done": "FINISHED", "failed": "FAILED", "blocked": "FAILED"}  # else RUNNING: it waits for people


def check(config: Config) -> None:
    """Before anything is written.

    Raises:
        InputError: a tracker is asked for that is not installed.
    """
    asked = {"mlflow": config.track.mlflow is not None, "tensorboard": config.track.tensorboard}
    module_of = {"mlflow": "mlflow", "tensorboard": "tensorboardX"}
    for name, is_asked in asked.items():
        if is_asked and importlib.util.find_spec(module_of[name]) is None:
            fix = f'pip install "cxr-ssl[{name}]", or leave the option out'
            raise InputError(f"needs {module_of[name]}, which is not installed", where=f"track.{name}", fix=fix)


@contextmanager
def following(folder: Path, config: Config) -> Iterator[None]:
    """Tell the trackers how a command ends, whether well or not."""
    try:
        yield
    finally:
        if config.track.mlflow is not None:
            _try("MLflow", _tell_mlflow, folder, config.track.mlflow)
        if config.track.tensorboard:
            _try("TensorBoard", _tell_tensorboard, folder)


def _try(name: str, tell: Any, *facts: Any) -> None:
    try:
        tell(*facts)
    except Exception as error:  # noqa: BLE001 - whatever a tracker or its server does, the run is what counts
        log.warning("%s was not told of this run: %s", name, str(error).partition("\n")[0])


def _tell_mlflow(folder: Path, address: str) -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is gone costs minutes otherwise
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=address)
    tracked = _tracked(folder)
    if tracked.get("mlflow", {}).get("address") != address:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        run = client.create_run(experiment_id, run_name=folder.name, tags={"cxr_ssl.version": __version__})
        tracked["mlflow"] = {"address": address, "run": run.info.run_id, "rounds": 0}
        params = [Param(key, value) for key, value in options(run_dir.config_of(folder)).items()]
        for start in range(0, len(params), MAX_PARAMS):
            client.log_batch(run.info.run_id, params=params[start : start + MAX_PARAMS])
        _remember(folder, tracked)
    own = tracked["mlflow"]
    for round_index, row in sorted(metrics(folder).items()):
        if round_index > own["rounds"]:
            entries = [Metric(key, value, 0, round_index) for key, value in row.items()]
            client.log_batch(own["run"], metrics=entries)
            own["rounds"] = round_index
            _remember(folder, tracked)
    if (report := folder / run_files.REPORT).exists():
        client.log_artifact(own["run"], str(report), "report")
    state = MLFLOW_STATES.get(run_dir.read_status(folder).get("state", ""), "RUNNING")
    if state == "RUNNING":
        client.update_run(own["run"], status=state)
    else:
        client.set_terminated(own["run"], state)


def _tell_tensorboard(folder: Path) -> None:
    from tensorboardX import SummaryWriter

    tracked = _tracked(folder)
    known = tracked.get("tensorboard", 0)
    rows = {round_index: row for round_index, row in sorted(metrics(folder).items()) if round_index > known}
    if not rows:
        return
    suffix = f".from-round-{min(rows)}"  # a second writer in the same second would take the first one's file
    writer = SummaryWriter(str(folder / run_files.TENSORBOARD), filename_suffix=suffix)
    try:
        for round_index, row in rows.items():
            for key, value in row.items():
                writer.add_scalar(key, value, round_index)
    finally:
        writer.close()
    _remember(folder, tracked | {"tensorboard": max(rows)})


def options(config: Config) -> dict[str, str]:
    """Every option by its dotted name; the secret of the pseudonyms is none of a tracker's business."""
    tree = config.model_dump(mode="json")
    tree["splits"].pop("salt", None)
    return {name: json.dumps(value) for name, value in _leaves(tree, ".")}


def metrics(folder: Path) -> dict[int, dict[str, float]]:
    """Every number of each round's line of metrics, by round; of independent findings `FINDING/NAME`."""
    parts = finding_folders.parts_in(folder)
    rows: dict[int, dict[str, float]] = {}
    for prefix, place in (("", folder), *((f"{finding}/", part) for finding, part in parts.items())):
        for line in run_dir.read_metrics(place):
            row = rows.setdefault(line["round"], {})
            for name, value in _leaves(line, "/"):
                if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                    row[re.sub(r"[^\w\-./ ]", "_", prefix + name)] = float(value)
    return rows


def _leaves(tree: Mapping[str, Any], between: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{between}{inner}", leaf) for inner, leaf in _leaves(value, between))
        else:
            yield name, value


def _tracked(folder: Path) -> dict[str, Any]:
    path = folder / run_files.TRACKED
    tracked: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return tracked


def _remember(folder: Path, tracked: Mapping[str, Any]) -> None:
    tables.write_text(folder / run_files.TRACKED, json.dumps(tracked))
