"""CheXpert: `train.csv`, `valid.csv` and, of CheXlocalize, `test_labels.csv`; patient and study stand in `Path`.

Irvin et al., CheXpert, AAAI 2019. Labels of the training part come from an NLP tool, those of the other parts from
three and five radiologists.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.sets import labeler_columns
from pipeline.pool.sets.public_set import NLP_ON_REPORT, ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant

TITLE = "CheXpert"
_PARTS = {
    "train": (("train.csv*", "chexpert_train.csv*", "train_cheXbert.csv*", "train_visualCheXbert.csv*"), NLP_ON_REPORT),
    "valid": (("valid.csv*", "chexpert_valid.csv*", "val_labels.csv*"), ON_SCAN),
    "test": (("test.csv*", "test_labels.csv*"), ON_SCAN),
}
_PERSON = ("Sex", "Age", "Frontal/Lateral", "AP/PA")


def read(folder: SetFolder) -> SetScans:
    """The set's tables; see `public_set.Reader`."""
    tables = {part: path for part, (patterns, _) in _PARTS.items() if (path := folder.find(*patterns)) is not None}
    if not tables:
        folder.need(TITLE, "train.csv*", "valid.csv*")
    texts: dict[str, list[pa.ChunkedArray]] = {name: [] for name in (*_PERSON, "Path", "split", "who")}
    present, num_uncertain = [], 0
    for part, path in tables.items():
        cells = columns(folder, path, ("Path", *labeler_columns.COLUMNS), _PERSON)
        num = len(cells["Path"])
        present_NC, num_unsure = labeler_columns.present(cells, f"{folder.root}/{path}")
        present.append(present_NC)
        num_uncertain += num_unsure
        extra = {"split": constant(part, num), "who": constant(_PARTS[part][1], num)}
        for name, chunks in texts.items():
            chunks.append(cells.get(name, extra.get(name, constant(None, num))))
    text = {name: pa.chunked_array([c for column in chunks for c in column.chunks]) for name, chunks in texts.items()}
    about = {
        "patient_id": pc.extract_regex(text["Path"], r"(?P<patient>patient\d+)").combine_chunks().field("patient"),
        "age": pc.if_else(pc.equal(text["Age"], "0"), None, text["Age"]),  # 0 stands where the age is not known
        "sex": text["Sex"],
        "view": pc.if_else(pc.equal(text["Frontal/Lateral"], "Lateral"), "LATERAL", text["AP/PA"]),
        "source": constant("chexpert", len(text["Path"])),
        "official_split": text["split"],
    }
    return SetScans(
        title=TITLE,
        file_N=text["Path"],
        findings=labeler_columns.FINDINGS,
        present_NC=np.concatenate(present),
        about=about,
        provenance_N=text["who"],
        num_uncertain=num_uncertain,
        num_parts=3,
    )
