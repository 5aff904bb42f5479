"""Files that are named one by one, predicted in this process, in their order."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.predict import columns, other_scans, predictor, scan_shard
from pipeline.predict.recipe import Recipe

FILES_AT_ONCE = 256


def predict_files(recipe: Recipe, files: Sequence[str], report: Callable[[str, int, int], None]) -> pa.Table:
    """The rows of files, in their order, with `columns.schema`; one that cannot be used has the reason.

    Args:
        recipe: How.
        files: Paths or URIs; what `path` holds.
        report: Called with (what, done, total).
    """
    uris = [file if "://" in file else str(Path(file).absolute()) for file in files]
    parts: list[pa.Table] = []
    for start in range(0, len(files), FILES_AT_ONCE):
        stop = min(start + FILES_AT_ONCE, len(files))
        parts.append(
            scan_shard.predict_shard(scan_shard.Shard(recipe, tuple(files[start:stop]), tuple(uris[start:stop])))
        )
        report("predict", stop, len(files))
    if not parts:
        return columns.schema(predictor.load(recipe).findings).empty_table()
    table = pa.concat_tables(parts)
    place = table.schema.get_field_index("in_run")
    sides = other_scans.ScansOfRun(recipe.run).sides(table["sha256"])
    return table.set_column(place, table.schema.field(place), sides)
