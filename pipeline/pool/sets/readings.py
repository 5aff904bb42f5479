"""Several rows a scan made one: rows of one reader are one reading, readings of several are a majority.

Legend: T rows of a table, R readings, N scans, C findings; 1 present, 0 absent, -1 unknown.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.pool.sets.public_set import ABSENT, PRESENT, UNKNOWN, Readings
from pipeline.pool.sets.set_tables import coded


def readings_of(scan_T: NDArray[np.int64], reader_T: pa.ChunkedArray, present_TC: NDArray[np.int8]) -> Readings:
    """One reading for all rows of a scan and a reader: what one of them calls present is.

    Args:
        scan_T: The scan of each row.
        reader_T: Who; null where nobody is named.
        present_TC: What the row says.
    """
    readers, reader_code_T = coded(reader_T)
    key_T = scan_T * max(len(readers), 1) + reader_code_T
    key_R, reading_T = np.unique(key_T, return_inverse=True)
    present_RC = np.full((len(key_R), present_TC.shape[1]), UNKNOWN, np.int8)
    np.maximum.at(present_RC, reading_T, present_TC)
    names = pa.array(readers, pa.string())
    return Readings(key_R // max(len(readers), 1), names.take(pa.array(key_R % max(len(readers), 1))), present_RC)


def majority_of(scan_R: NDArray[np.int64], present_RC: NDArray[np.int8], num_scans: int) -> NDArray[np.int8]:
    """What most readings say of each scan (N, C): unknown on an even split, and where none says anything."""
    votes_NC = np.zeros((num_scans, present_RC.shape[1]), np.int32)
    np.add.at(votes_NC, scan_R, (present_RC == PRESENT).astype(np.int32) - (present_RC == ABSENT))
    return np.select([votes_NC > 0, votes_NC < 0], [PRESENT, ABSENT], UNKNOWN).astype(np.int8)
