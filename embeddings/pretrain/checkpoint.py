"""How far a training came, on disk: tensors and plain values, replaced in one step, read without pickle."""

from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError

FILE = "checkpoint.pt"


def save(folder: Path, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the checkpoint; the last one stays until the new one is whole."""
    import os

    import torch

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{FILE}"
    with partial.open("wb") as stream:
        torch.save({"settings": settings, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / FILE)


def load(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The state that `save` left, None where there is none.

    Raises:
        InputError: when it belongs to another training, or cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    import torch

    fix = f"set it back, or delete {path} to start anew"
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state.pop("settings")
    except Exception as error:  # whatever torch makes of a file that is none of ours
        raise InputError(
            f"the checkpoint cannot be read: {type(error).__name__}", where=path, fix="delete it to start anew"
        ) from error
    changed = sorted(key for key in settings.keys() | before.keys() if settings.get(key) != before.get(key))
    if changed:
        name = changed[0]
        raise InputError(
            f"the checkpoint is of another training: {name} was {before.get(name)!r}"
            + (f", and {len(changed) - 1} more differ" if len(changed) > 1 else ""),
            value=settings.get(name),
            where=path,
            fix=fix,
        )
    return state
