"""The fourteen columns of the CheXpert labeler, as CheXpert, CheXpert Plus, MIMIC-CXR-JPG and BRAX ship them.

Irvin et al., CheXpert, AAAI 2019: 1 present, 0 absent, -1 uncertain, blank not mentioned. `No Finding` says that the
others are absent, devices apart: a scan without a finding may show a pacemaker.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.pool.sets.public_set import ABSENT, PRESENT
from pipeline.pool.sets.set_tables import signs

# N rows, C findings

NO_FINDING = "No Finding"
DEVICES = "Support Devices"
FINDINGS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    DEVICES,
)
COLUMNS = (NO_FINDING, *FINDINGS)


def present(cells: Mapping[str, pa.ChunkedArray], where: str) -> tuple[NDArray[np.int8], int]:
    """What the columns say of each of `FINDINGS` (N, 13), and how many cells say uncertain.

    Where `No Finding` is 1, a blank of another finding is absent; what the row says of one by itself stays.

    Raises:
        InputError: a cell is neither 1, 0, -1 nor blank.
    """
    said_NC, num_uncertain = signs({name: cells[name] for name in FINDINGS}, where)
    nothing_N1, _ = signs({NO_FINDING: cells[NO_FINDING]}, where)
    blank_NC = np.stack([np.asarray(cells[name].is_null()) for name in FINDINGS], axis=1)
    silent_NC = blank_NC & (nothing_N1 == PRESENT)
    silent_NC[:, FINDINGS.index(DEVICES)] = False
    said_NC[silent_NC] = ABSENT
    return said_NC, num_uncertain
