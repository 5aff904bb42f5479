"""MIMIC-CXR-JPG: a table of labels (a row a study), one of pictures and one of the owner's split; no paths.

Johnson et al., MIMIC-CXR-JPG, 2019. A picture is `files/p10/p10000032/s50414267/<dicom_id>.jpg`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.sets import labeler_columns
from pipeline.pool.sets.public_set import NLP_ON_REPORT, UNKNOWN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant

TITLE = "MIMIC-CXR-JPG"


def read(folder: SetFolder) -> SetScans:
    """The set's three tables; see `public_set.Reader`."""
    pictures = columns(
        folder,
        folder.need(TITLE, "mimic-cxr-2*-metadata.csv*"),
        ("dicom_id", "subject_id", "study_id"),
        ("ViewPosition",),
    )
    path = folder.need(TITLE, "mimic-cxr-2*-chexpert.csv*", "mimic-cxr-2*-negbio.csv*")
    studies = columns(folder, path, ("study_id", *labeler_columns.COLUMNS))
    said_LC, num_uncertain = labeler_columns.present(studies, f"{folder.root}/{path}")
    row = pc.index_in(pictures["study_id"], value_set=studies["study_id"].combine_chunks())
    row_N = np.asarray(pc.fill_null(row, -1), np.int64)
    present_NC = np.full((len(row_N), said_LC.shape[1]), UNKNOWN, np.int8)
    present_NC[row_N >= 0] = said_LC[row_N[row_N >= 0]]
    about = {"patient_id": pictures["subject_id"], "source": constant("mimic-cxr", len(row_N))}
    if "ViewPosition" in pictures:
        about["view"] = pictures["ViewPosition"]
    split = folder.find("mimic-cxr-2*-split.csv*")
    if split is not None:
        about["official_split"] = _split(columns(folder, split, ("dicom_id", "split")), pictures["dicom_id"])
    return SetScans(
        title=TITLE,
        file_N=pictures["dicom_id"],
        findings=labeler_columns.FINDINGS,
        present_NC=present_NC,
        about=about,
        provenance_N=constant(NLP_ON_REPORT, len(row_N)),
        num_uncertain=num_uncertain,
    )


def _split(table: dict[str, pa.ChunkedArray], dicom_id: pa.ChunkedArray) -> pa.ChunkedArray:
    """The part of each picture; its `validate` is our `validation`."""
    part = table["split"].take(pc.index_in(dicom_id, value_set=table["dicom_id"].combine_chunks()))
    return pc.if_else(pc.equal(part, "validate"), "validation", part)
