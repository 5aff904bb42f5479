"""Readings that came with the pool: what several people said of its scans before this run, as answers of theirs.

They go into the journal as one batch, so that agreement and consensus hold from the first round. Readings of sealed
scans stay out: of those the pool's label, which is what most readers say, is the reference.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.answers import Answer, annotator_name
from pipeline.contracts.tables import POOL_READINGS
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files

KIND = "pool"  # of the batch


def read(folder: Path) -> pa.Table:
    """Readings with a reader's name and a label; empty where the pool brings none."""
    if not run_files.path(folder, POOL_READINGS.file).exists():
        return POOL_READINGS.empty()
    table = run_files.read(folder, POOL_READINGS)
    return table.filter(pc.and_(pc.is_valid(table["reader"]), pc.is_valid(table["label"])))


def enter(folder: Path, train: pa.ChunkedArray) -> set[str]:
    """Bring the readings of training scans into the journal, once each.

    Args:
        folder: Run directory.
        train: image_id of each scan of the training pool.

    Returns:
        The scans that have readings: what the pool's own label says of them is what these say.

    Raises:
        InputError: a reader's name is none that an annotator may have.
    """
    table = read(folder)
    table = table.filter(pc.is_in(table["image_id"], value_set=train.combine_chunks()))
    if not len(table):
        return set()
    names = {name: annotator_name(name, "the pool's readers") for name in pc.unique(table["reader"]).to_pylist()}
    rows = zip(*(table[name].to_pylist() for name in ("image_id", "reader", "label")), strict=True)
    answers = [
        Answer(image_id, label, names[reader], 0, key=f"{KIND}/{image_id}/{reader}") for image_id, reader, label in rows
    ]
    with Journal.open(folder).writing() as journal:
        new = [answer for answer in answers if answer.key not in journal.entries]
        if new:
            journal.add(journal.begin(KIND), new)
    return set(table["image_id"].to_pylist())
