"""SIIM-ACR Pneumothorax: `train-rle.csv`, a row a mask; `-1` is a scan without one.

The second column's name begins with a blank in the owner's file.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.sets.public_set import ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.readings import majority_of, readings_of
from pipeline.pool.sets.set_tables import coded, columns, constant

TITLE = "SIIM-ACR Pneumothorax"


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "*train-rle.csv*", "stage_2_train.csv*")
    cells = columns(folder, path, ("ImageId", "EncodedPixels"))
    pictures, picture_T = coded(cells["ImageId"])
    has_mask = pc.invert(pc.match_substring_regex(cells["EncodedPixels"], r"^-1([.,]0+)?$"))
    present_T1 = np.asarray(pc.fill_null(has_mask.cast(pa.int8()), -1))[:, None].astype(np.int8)
    rows = readings_of(picture_T, constant(None, len(picture_T)), present_T1)
    return SetScans(
        title=TITLE,
        file_N=pa.chunked_array([pa.array(pictures, pa.string())]),
        findings=("pneumothorax",),
        present_NC=majority_of(rows.scan_R, rows.present_RC, len(pictures)),
        about={"source": constant("siim-acr", len(pictures))},
        provenance_N=constant(ON_SCAN, len(pictures)),
    )
