"""The folder of a monitored stream of batches: one line a batch, appended, never rewritten."""

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError

HISTORY, RESULT, PAGE = "history.jsonl", "monitor.json", "index.html"


def read(folder: Path, run: str) -> list[dict[str, Any]]:
    """The lines so far, in order; none of a new folder.

    Args:
        folder: Where they lie.
        run: Code of the run that is monitored there.

    Raises:
        InputError: the folder holds something else, or the batches of another run.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, no folder", value=str(folder), where="--out", fix="name a folder")
    path = folder / HISTORY
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                "holds something else",
                value=str(folder),
                where="--out",
                fix="name a new folder, or one with the batches of before; nothing was touched",
            )
        return []
    lines = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise InputError(
                "is no line of a history", where=f"{path}:{number}", fix="take that line out; the others stay"
            ) from error
    strange = next((line for line in lines if line.get("run") != run), None)
    if strange is not None:
        raise InputError(
            "holds the batches of another run",
            value=str(strange.get("run")),
            where=path,
            fix="name a folder of its own for each run",
        )
    return lines


def append(folder: Path, run: str, content: dict[str, Any]) -> dict[str, Any]:
    """Add a batch; returns its line."""
    cause = content["cause"]
    line = {
        "run": run,
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "pool": content["pool"],
        "round": content["round"],
        "num_scans": content["batch"]["num_compared"],
        "verdict": content["verdict"],
        "cause": None if cause is None else cause["name"],
        "share_outside": content["share_outside"],
        "accuracy": {name: estimate["value"] for name, estimate in content["accuracy"].items()},
        "shares": {
            name: {finding: estimate["value"] for finding, estimate in methods["em"].items()}
            for name, methods in content["prevalence"].items()
        },
        "p_holm": {stream: rows["p_holm"] for stream, rows in content["streams"].items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
    with (folder / HISTORY).open("ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return line
