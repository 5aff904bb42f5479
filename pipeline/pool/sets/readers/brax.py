"""BRAX: `master_spreadsheet_update.csv`, a row a picture; the labels of the CheXpert labeler on Portuguese reports.

Reis et al., BRAX, Scientific Data 2022. Ages are groups of five years, the oldest `85 or more`.
"""

import pyarrow.compute as pc

from pipeline.pool.sets import labeler_columns
from pipeline.pool.sets.public_set import NLP_ON_REPORT, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant

TITLE = "BRAX"
_KNOWN = {"PatientID": "patient_id", "PatientSex": "sex", "PatientAge": "age", "ViewPosition": "view"}


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "master_spreadsheet*.csv*")
    cells = columns(folder, path, ("PngPath", *labeler_columns.COLUMNS), ("DicomPath", *_KNOWN))
    present_NC, num_uncertain = labeler_columns.present(cells, f"{folder.root}/{path}")
    about = {known: cells[own] for own, known in _KNOWN.items() if own in cells}
    if "age" in about:
        about["age"] = pc.if_else(pc.equal(about["age"], "85 or more"), "85", about["age"])
    return SetScans(
        title=TITLE,
        file_N=cells["PngPath"],
        findings=labeler_columns.FINDINGS,
        present_NC=present_NC,
        about=about | {"source": constant("brax", len(cells["PngPath"]))},
        provenance_N=constant(NLP_ON_REPORT, len(cells["PngPath"])),
        num_uncertain=num_uncertain,
        num_parts=2,
        other_file_N=cells.get("DicomPath"),
    )
