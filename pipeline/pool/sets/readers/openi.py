"""Open-I (Indiana University): XML reports, packed as `NLMCXR_reports.tgz` or unpacked, each naming its pictures.

Demner-Fushman et al., JAMIA 2016. Coders gave each report its headings (`MeSH/major`, such as
`Opacity/lung/upper lobe/left`); a report's headings hold for all its pictures. Headings that a program gave
(`MeSH/automatic`) are not read. One report is one patient.
"""

import io
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.errors import InputError
from pipeline.pool.sets.public_set import CODER_ON_REPORT, PRESENT, UNKNOWN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant

TITLE = "Open-I"
# Finding to the headings that name it; the others are absent where a report has headings.
HEADINGS = {
    "Atelectasis": ("pulmonary atelectasis",),
    "Calcified Granuloma": ("calcified granuloma",),
    "Cardiomegaly": ("cardiomegaly",),
    "Consolidation": ("consolidation",),
    "Edema": ("pulmonary edema",),
    "Emphysema": ("emphysema", "pulmonary emphysema"),
    "Fibrosis": ("pulmonary fibrosis",),
    "Fracture": ("fractures, bone",),
    "Granuloma": ("granuloma", "calcified granuloma", "granulomatous disease"),
    "Hernia": ("hernia, hiatal",),
    "Infiltrate": ("infiltrate",),
    "Mass": ("mass",),
    "Nodule": ("nodule",),
    "Opacity": ("opacity",),
    "Pleural Effusion": ("pleural effusion",),
    "Pleural Thickening": ("thickening/pleura",),
    "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
}
_SILENT = ("no indexing", "technical quality of image unsatisfactory")
_TAGS = {"View Position": "view", "Patient's Sex": "sex"}


def read(folder: SetFolder) -> SetScans:
    """The set's reports; see `public_set.Reader`."""
    ids: list[str] = []
    patients: list[str] = []
    rows: list[np.ndarray] = []
    for where, data in _reports(folder):
        try:
            report = ElementTree.fromstring(data)
            uid = report.find("uId")
            patient = uid.attrib["id"] if uid is not None else None
            pictures = [picture.attrib["id"] for picture in report.iter("parentImage")]
        except (ElementTree.ParseError, KeyError) as error:
            raise InputError(f"the report cannot be read: {error!r}", where=where, fix="download it again") from error
        row = row_of([heading.text or "" for heading in report.findall(".//MeSH/major")])
        ids += pictures
        patients += [patient or where] * len(pictures)
        rows += [row] * len(pictures)
    file_N = pa.chunked_array([pa.array(ids, pa.string())])
    return SetScans(
        title=TITLE,
        file_N=file_N,
        findings=tuple(HEADINGS),
        present_NC=np.array(rows, np.int8).reshape(len(rows), len(HEADINGS)),
        about={
            "patient_id": pa.chunked_array([pa.array(patients, pa.string())]),
            "source": constant("open-i", len(ids)),
            **_tags(folder, file_N),
        },
        provenance_N=constant(CODER_ON_REPORT, len(ids)),
        other_file_N=pc.replace_substring_regex(file_N, r"^CXR", ""),  # as the DICOM files are called
    )


def _reports(folder: SetFolder) -> Iterator[tuple[str, bytes]]:
    """Each report and where it lies, in the order of their numbers."""
    packed = folder.find("NLMCXR_reports.tgz", "NLMCXR_reports.tar.gz")
    if packed is not None:
        where = f"{folder.root}/{packed}"
        try:
            with tarfile.open(fileobj=io.BytesIO(folder.read(packed))) as archive:
                named = [(entry.name, archive.extractfile(entry)) for entry in archive if entry.name.endswith(".xml")]
                reports = {name: stream.read() for name, stream in named if stream is not None}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(
                f"the reports cannot be unpacked: {error}", where=where, fix="download them again"
            ) from error
        yield from ((f"{where}/{name}", reports[name]) for name in sorted(reports, key=_number))
        return
    folder.need(TITLE, "*.xml")
    for path in sorted(folder.find_all("*.xml"), key=_number):
        yield f"{folder.root}/{path}", folder.read(path)


def _number(path: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", path.rpartition("/")[2])
    return int(digits or 0), path


def row_of(headings: list[str]) -> np.ndarray:
    """What a report's headings say of each finding (C)."""
    plain = [" ".join(heading.split()).lower() for heading in headings]
    telling = [heading for heading in plain if not heading.startswith(_SILENT)]
    if not telling:
        return np.full(len(HEADINGS), UNKNOWN, np.int8)
    return np.array([PRESENT * any(_names(h, names) for h in telling) for names in HEADINGS.values()], np.int8)


def _names(heading: str, names: tuple[str, ...]) -> bool:
    return any(heading == name or heading.startswith(f"{name}/") for name in names)


def _tags(folder: SetFolder, file_N: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """View and sex from a table of DICOM tags; a view that it lacks from one of guesses by the pictures' looks."""
    out: dict[str, pa.ChunkedArray] = {}
    for name, wanted in (("nlmcxr_dicom_metadata.csv*", _TAGS), ("nlmcxr_tsne_pa.csv*", {"tsne-view": "view"})):
        path = folder.find(name)
        if path is None:
            continue
        cells = columns(folder, path, ("imageid",), tuple(wanted))
        place = pc.index_in(file_N, value_set=cells["imageid"].combine_chunks())
        for own, known in wanted.items():
            if own in cells:
                more = cells[own].take(place)
                out[known] = pc.coalesce(out[known], more) if known in out else more
    return out
