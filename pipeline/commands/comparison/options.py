"""The options in which runs differ; a secret salt is in no dump of a configuration, and so not among them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.commands.comparison.records import RunRecord


def differing(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Options that are not the same in every run whose options can be read.

    Returns:
        [{"option": dotted name, "values": [of each run, in their order; None also where options cannot be read]}].
    """
    flat = [dict(_leaves(record.config.model_dump(mode="json"))) if record.config else None for record in records]
    read = [of_run for of_run in flat if of_run is not None]
    names = dict.fromkeys(name for of_run in read for name in of_run)
    return [
        {"option": name, "values": [None if of_run is None else of_run.get(name) for of_run in flat]}
        for name in names
        if any(of_run.get(name) != read[0].get(name) for of_run in read)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
