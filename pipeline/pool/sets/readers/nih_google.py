"""Four findings of 4,376 scans of ChestX-ray14, adjudicated by radiologists: `google2019_nih-chest-xray-labels.csv`.

Majkowska et al., Radiology 2020. The scans are those of ChestX-ray14 and lie where they lie.
"""

from pipeline.pool.sets.public_set import ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant, signs

TITLE = "NIH ChestX-ray14, adjudicated labels"
FINDINGS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
_KNOWN = {
    "Patient ID": "patient_id",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "View Position": "view",
    "Set Id": "official_split",
}


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "google2019_nih-chest-xray-labels.csv*", "four_findings_expert_labels_*_labels.csv*")
    cells = columns(folder, path, ("Image Index", *FINDINGS), tuple(_KNOWN))
    present_NC, num_uncertain = signs({name: cells[name] for name in FINDINGS}, f"{folder.root}/{path}")
    about = {known: cells[own] for own, known in _KNOWN.items() if own in cells}
    return SetScans(
        title=TITLE,
        file_N=cells["Image Index"],
        findings=FINDINGS,
        present_NC=present_NC,
        about=about | {"source": constant("nih-chestx-ray14", len(cells["Image Index"]))},
        provenance_N=constant(ON_SCAN, len(cells["Image Index"])),
        num_uncertain=num_uncertain,
    )
