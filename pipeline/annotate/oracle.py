"""The pool's own labels answer the queue: for benchmarks and demonstrations."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.answers import CANNOT_TELL, ORACLE, Answer


def answer(image_ids: list[str], pool_labels: pa.Table, round_index: int) -> list[Answer]:
    """One answer for each scan, "cannot tell" where the pool has no label."""
    wanted = pool_labels.filter(pc.is_in(pool_labels["image_id"], value_set=pa.array(image_ids, pa.string())))
    known = dict(zip(wanted["image_id"].to_pylist(), wanted["label"].to_pylist(), strict=True))
    return [Answer(image_id, known.get(image_id) or CANNOT_TELL, ORACLE, round_index) for image_id in image_ids]
