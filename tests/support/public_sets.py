"""The real tables in torchxrayvision's wheel, read by our readers and by its own loaders, scan by scan.

The package is only in the development install; `DATA` is None where it is missing. A table may be cut to its first
rows for both. N scans that both have, C findings of the peer.
"""

import gzip
import shutil
import tarfile
import warnings
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.pool.sets import registry
from pipeline.pool.sets.public_set import SetFolder, SetScans

_SPEC = find_spec("torchxrayvision")
DATA = None if _SPEC is None else Path(_SPEC.origin).parent / "data"
MISSING = "torchxrayvision is not installed: its wheel brings the real tables (python -m pip install -e '.[dev]')"

# Set -> its tables in the wheel, the first of them the one with labels
TABLES = {
    "nih": ("Data_Entry_2017_v2020.csv.gz", "BBox_List_2017.csv.gz"),
    "nih-google": ("google2019_nih-chest-xray-labels.csv.gz",),
    "chexpert": ("chexpert_train.csv.gz",),
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",),
    "rsna": ("kaggle_stage_2_train_labels.csv.zip", "kaggle_stage_2_train_images_dicom_headers.csv.gz"),
    "siim": ("siim-pneumothorax-train-rle.csv.gz",),
    "vinbig": ("vinbigdata-train.csv.gz",),
    "openi": ("NLMCXR_reports.tgz", "nlmcxr_dicom_metadata.csv.gz", "nlmcxr_tsne_pa.csv.gz"),
}


@dataclass(frozen=True)
class Peer:
    """What torchxrayvision makes of a table: a row a row of its own, labels 1, 0 and NaN."""

    file_N: list[str]
    patient_N: list[str] | None
    findings: list[str]
    label_NC: np.ndarray


def folder_with(name: str, folder: Path, num_rows: int | None = None) -> SetFolder:
    """A folder with a set's tables and no scan, cut to the first rows of the first table where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(TABLES[name]):
        if num_rows is None or number or not table.endswith((".csv.gz", ".csv.zip")):
            shutil.copy(DATA / table, folder / table)
        else:
            _cut(DATA / table, folder / table, num_rows)
    return SetFolder(str(folder), tuple(path.name for path in folder.iterdir()))


def ours(name: str, folder: SetFolder) -> SetScans:
    """What our reader makes of it."""
    return registry.reader_of(name)(folder)


def peers(name: str, folder: Path) -> Peer:
    """What torchxrayvision's loader makes of the same tables, every view and every scan of a patient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchxrayvision import datasets as d

        table = str(folder / TABLES[name][0])
        every = {"views": ["*"], "unique_patients": False}
        made = {
            "nih": lambda: (d.NIH_Dataset(str(folder), table, **every), "Image Index"),
            "nih-google": lambda: (d.NIH_Google_Dataset(str(folder), table, **every), "Image Index"),
            "chexpert": lambda: (d.CheX_Dataset(str(folder), table, **every), "Path"),
            "padchest": lambda: (d.PC_Dataset(str(folder), table, **every), "ImageID"),
            "rsna": lambda: (d.RSNA_Pneumonia_Dataset(str(folder), table, views=["*"]), "patientId"),
            "siim": lambda: (d.SIIM_Pneumothorax_Dataset(str(folder), table), "ImageId"),
            "vinbig": lambda: (d.VinDr_Dataset(str(folder), table), "image_id"),
            "openi": lambda: (d.Openi_Dataset(str(folder), table, **every), "imageid"),
        }
        dataset, key = made[name]()
    patients = dataset.csv["patientid"].astype(str).tolist() if "patientid" in dataset.csv else None
    return Peer(dataset.csv[key].astype(str).tolist(), patients, [str(p) for p in dataset.pathologies], dataset.labels)


# What the peer calls by one name and the owner by others.
_SAME = {
    "chexpert": {"Effusion": ("Pleural Effusion",)},
    "nih-google": {"Lung Opacity": ("Airspace opacity",), "Nodule/Mass": ("Nodule or mass",)},
    "rsna": {"Lung Opacity": ("pneumonia",), "Pneumonia": ("pneumonia",)},
    "siim": {"Pneumothorax": ("pneumothorax",)},
    "vinbig": {
        "Aortic enlargement": ("Aortic enlargement",),
        "Effusion": ("Pleural effusion",),
        "Other Lesion": ("Other lesion",),
        "Pleural_Thickening": ("Pleural thickening",),
        "Pulmonary Fibrosis": ("Pulmonary fibrosis",),
    },
    "openi": {
        "Infiltration": ("Infiltrate",),
        "Lung Opacity": ("Opacity",),
        "Effusion": ("Pleural Effusion",),
        "Pleural_Thickening": ("Pleural Thickening",),
        "Lung Lesion": (),
    },
}
# Parts of PadChest's labels that the peer's loader joins under one name, as its source has them.
_PADCHEST = {
    "Infiltration": (
        "infiltration",
        "infiltrates",
        "interstitial pattern",
        "ground glass pattern",
        "alveolar pattern",
        "consolidation",
        "air bronchogram",
    ),
    "Pleural_Thickening": ("pleural_thickening", "pleural thickening"),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Hilar Enlargement": ("hilar enlargement", "adenopathy", "pulmonary artery enlargement"),
    "Support Devices": ("support devices", "device", "pacemaker"),
}


def own_names(name: str, whole: SetScans, peer_finding: str) -> tuple[str, ...]:
    """Our findings that the peer's loader joins under one of its names."""
    if name == "padchest":
        if peer_finding == "Tube":  # it looks for a quote after the word
            return tuple(f for f in whole.findings if f.endswith(("tube", "stent")))
        parts = _PADCHEST.get(peer_finding, (peer_finding.lower(),))
        return tuple(f for f in whole.findings if any(part in f for part in parts))
    return _SAME.get(name, {}).get(peer_finding, (peer_finding,) if peer_finding in whole.findings else ())


def compared(name: str, whole: SetScans, peer: Peer, present_NC: np.ndarray | None = None) -> dict[str, int]:
    """Cells (scan and finding) that both know or not, and how many are the same.

    Args:
        name: The set.
        whole: What our reader says.
        peer: What its loader says.
        present_NC: Instead of `whole.present_NC`.

    Returns:
        {"cells", "same", "unknown here", "unknown there", "present here", "present there"}: the last two where both
        know and differ.
    """
    ours_NC = whole.present_NC if present_NC is None else present_NC
    place = {file: row for row, file in enumerate(whole.file_N.to_pylist())}
    pairs = [(place[file], row) for row, file in enumerate(peer.file_N) if file in place]
    own_N, peer_N = (np.array(rows, np.int64) for rows in zip(*pairs, strict=True))
    counts = dict.fromkeys(("cells", "same", "unknown here", "unknown there", "present here", "present there"), 0)
    for c, finding in enumerate(peer.findings):
        columns = [whole.findings.index(own) for own in own_names(name, whole, finding)]
        if not columns:
            continue
        here_N = ours_NC[own_N][:, columns].max(axis=1).astype(np.float64)  # present beats absent beats unknown
        here_N[here_N == -1] = np.nan
        there_N = peer.label_NC[peer_N, c]
        unknown, there_unknown = np.isnan(here_N), np.isnan(there_N)
        counts["cells"] += len(here_N)
        counts["same"] += int(((here_N == there_N) | (unknown & there_unknown)).sum())
        counts["unknown here"] += int((unknown & ~there_unknown).sum())
        counts["unknown there"] += int((~unknown & there_unknown).sum())
        counts["present here"] += int(((here_N == 1) & (there_N == 0)).sum())
        counts["present there"] += int(((here_N == 0) & (there_N == 1)).sum())
    return counts


def of_any_reader(whole: SetScans) -> np.ndarray:
    """Present (N, C) where any reader says so, as the peer's loader takes it."""
    out_NC = np.full_like(whole.present_NC, -1)
    np.maximum.at(out_NC, whole.readings.scan_R, whole.readings.present_RC)
    return out_NC


def _cut(source: Path, target: Path, num_rows: int) -> None:
    if source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            member = archive.namelist()[0]
            with archive.open(member) as stream:
                lines = [stream.readline() for _ in range(num_rows + 1)]
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(member, b"".join(lines))
        return
    with gzip.open(source, "rb") as stream, gzip.open(target, "wb", compresslevel=1) as out:
        out.writelines(line for _, line in zip(range(num_rows + 1), stream, strict=False))


def cut_reports(target: Path, num: int) -> None:
    """The first reports of Open-I's archive."""
    with tarfile.open(DATA / TABLES["openi"][0]) as archive, tarfile.open(target, "w:gz") as out:
        entries = (entry for entry in archive if entry.name.endswith(".xml"))
        for _, entry in zip(range(num), entries, strict=False):
            out.addfile(entry, archive.extractfile(entry))
