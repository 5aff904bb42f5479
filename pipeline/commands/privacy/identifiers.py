"""What could lead to a patient: ids, names and paths of a pool, to be looked for where they must not stand."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from embeddings.decoding import dicom_file
from embeddings.decoding.files import read_bytes
from embeddings.decoding.unusable import DecodeError
from pipeline.commands.privacy.file_texts import picture_texts
from pipeline.contracts.errors import InputError
from pipeline.pool.sources import Pool
from pipeline.pool.vocabulary import SPLIT_NAMES
from pipeline.tables.notes import Notes
from pipeline.tables.opening import open_table

MIN_CHARACTERS = 5  # a shorter number stands everywhere by chance
MIN_LETTERS = 4
_WORD = re.compile(r"[^\W_]+")
_FRACTION = re.compile(r"(?<![\w.])-?\d+\.\d+(?:[eE][+-]?\d+)?(?![\w.])")  # its digits are no id
_OWN = re.compile(  # measures that are called after people, as a run writes them
    r"\b(?:cohen|fleiss|krippendorff|holm|wilson|brier|cram[eé]r)(?=['’]?s?[\s_]+(?:kappa|kind|alpha|v|score|method|interval))",
    re.I,
)
_NAMES = ("PatientName", "PatientBirthName", "OtherPatientNames", "PatientMotherBirthName", "ReferringPhysicianName")
_PEOPLE = (*_NAMES, "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician")
_TAGS = (
    *("PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers"),
    *("AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress", "StudyInstanceUID"),
    *("SeriesInstanceUID", "SOPInstanceUID", "PatientComments", "AdditionalPatientHistory"),
)
_PERSONAL = re.compile(
    r"name|patient|mrn|accession|birth|dob|address|phone|mail|study|person|physician|insur|ssn|nhs|uid|identif", re.I
)
_OF_FILES = re.compile(r"image.?path|file.?name|path|file|uri", re.I)  # looked at as paths anyway
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".csv.gz")
_ORDINARY = frozenset(  # words that lead to nobody
    {
        *("image", "images", "img", "picture", "pictures", "scan", "scans", "xray", "xrays", "cxr", "cxrs", "chest"),
        *("thorax", "frontal", "lateral", "front", "side", "view", "data", "dataset", "pool", "manifest", "files"),
        *("normal", "abnormal", "pneumonia", "covid", "train", "training", "test", "testing", "valid", "validation"),
        *("val", "holdout", "positive", "negative", "label", "labels", "class", "classes", "site", "hospital"),
        *("source", "study", "series", "patient", "patients", "dicom", "png", "jpeg", "jpg", "tiff", "original"),
        *("processed", "resized", "cohort", "batch", "part", "folder", "set", "raw", "all", "unknown", "none"),
        # what programs write into the comments of pictures
        *(
            "version",
            "library",
            "software",
            "program",
            "created",
            "creator",
            "generated",
            "encoder",
            "quality",
            "default",
        ),
        *(
            "copyright",
            "corporation",
            "intel",
            "adobe",
            "photoshop",
            "imagemagick",
            "gimp",
            "paint",
            "microsoft",
            "windows",
        ),
        *(
            "lead",
            "technologies",
            "exif",
            "comment",
            "hires",
            "ducky",
            "camera",
            "scanner",
            "standard",
            "using",
            "with",
        ),
    }
)


@dataclass
class Identifiers:
    """Terms to look for.

    Attributes:
        kind_of: The words of a term to where the pool has it.
        num_too_short: Terms that cannot be told from other numbers and words.
    """

    kind_of: dict[tuple[str, ...], str] = field(default_factory=dict)
    num_too_short: int = 0
    _by_first_word: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)

    def add(self, text: str | None, kind: str) -> None:
        """Take a term in, unless it is too short or an ordinary word."""
        term = tuple(_WORD.findall((text or "").casefold()))
        joined = "".join(term)
        if not term or term in self.kind_of or all(word in _ORDINARY for word in term):
            return
        if len(joined) >= MIN_CHARACTERS or (len(joined) >= MIN_LETTERS and joined.isalpha()):
            self.kind_of[term] = kind
            self._by_first_word.setdefault(term[0], []).append(term)
        else:
            self.num_too_short += 1

    def add_name(self, text: str | None, kind: str) -> None:
        """Take a person's name in, and each part of it: `Doe^Jane` may stand as `Jane Doe`."""
        self.add(text, kind)
        for part in _WORD.findall(text or ""):
            if part.isalpha() and len(part) >= MIN_LETTERS:
                self.add(part, kind)

    def count_in(self, text: str) -> Counter[str]:
        """How often terms stand in a text, by kind, whatever separates their words."""
        words = _WORD.findall(_OWN.sub(" ", _FRACTION.sub(" ", text)).casefold())
        counts: Counter[str] = Counter()
        for place, word in enumerate(words):
            for term in self._by_first_word.get(word, ()):
                if tuple(words[place : place + len(term)]) == term:
                    counts[self.kind_of[term]] += 1
        return counts


def of_pool(pool: Pool, listed: Iterable[str] = ()) -> Identifiers:
    """The identifiers of a pool.

    Args:
        pool: Its scans; each file is opened for its tags.
        listed: Further terms.
    """
    terms = Identifiers()
    for text in listed:
        terms.add_name(text, "listed term")
    for patient in pool.scans["patient_id"].unique().drop_null().to_pylist():
        terms.add(patient, "patient id")
    for text in _of_tables(Path(pool.root)):
        terms.add_name(text, "column of a table")
    for uri in pool.scans["uri"].to_pylist():
        for kind, text in _of_file(uri):
            (terms.add_name if kind.startswith("name") else terms.add)(text, kind)
    public = {str(value).casefold() for name in ("label", "source") for value in pool.scans[name].unique().to_pylist()}
    for path in pool.scans["path"].to_pylist():
        for part in Path(path).parts:
            stem = Path(part).stem if part == Path(path).name else part
            if stem.casefold() not in public | SPLIT_NAMES:
                terms.add(stem, "part of a path")
    return terms


def listed_in(path: Path) -> list[str]:
    """Terms of a file, one a line.

    Raises:
        InputError: it cannot be read as text.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "cannot be read as UTF-8 text", where="--terms", value=str(path), fix="one term a line"
        ) from error


def _of_tables(root: Path) -> Iterator[str]:
    """Values of those columns of a pool's tables whose name is that of something personal, used by a run or not."""
    for place in sorted(root.glob("*")) if root.is_dir() else []:
        if not place.name.lower().endswith(_TABLES):
            continue
        try:
            table = open_table(place.name, place.read_bytes(), _is_header, Notes(place.name))
            named = [i for i, name in enumerate(table.header) if _is_personal(name)]
            columns = table.load(named).columns if named else []
        except (InputError, OSError):
            continue  # no table, or one that no run could have read
        for column in columns:
            yield from (str(value) for value in column.unique().drop_null().to_pylist())


def _is_header(cells: Sequence[str]) -> bool:
    return any(map(_is_personal, cells))


def _is_personal(name: str) -> bool:
    return bool(_PERSONAL.search(name)) and not _OF_FILES.fullmatch(name)


def _of_file(uri: str) -> Iterator[tuple[str, str]]:
    """What the tags of a scan's file say of people."""
    try:
        data = read_bytes(uri)
        if not dicom_file.is_dicom(data):
            with Image.open(io.BytesIO(data)) as image:
                for _, text in picture_texts(image):
                    yield "name in EXIF or PNG text", text
            return
        dataset = dicom_file.parse(data, with_pixels=False)
    except (DecodeError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return  # what cannot be read has left nothing to look for
    for name in (*_PEOPLE, *_TAGS):
        kind = "name in a DICOM tag" if name in _PEOPLE else "DICOM tag"
        value = dataset.get(name)
        for text in value if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]:
            if text:
                yield kind, str(text)
