"""What a phantom pool is made of: the request, its checks and its one-line URI form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, cast

FINDINGS: tuple[str, ...] = ("normal", "pneumonia", "effusion", "nodule")
"""The exclusive labels. The first is the one that means "nothing found"; the others may also be independent."""

FAULT_EFFECTS: Mapping[str, str] = MappingProxyType(
    {
        "exact-duplicates": "12 % of the scans are repeated byte for byte under another name",
        "near-duplicates": "15 % of the scans are repeated re-encoded, resized, brightened or cropped",
        "duplicates-across-splits": "copies, and so their patients, are in both official splits",
        "duplicates-across-patients": "copies carry the id of another patient of the same label",
        "patient-across-splits": "a third of the patients with several scans are in both splits",
        "patient-id-collision": "pairs of persons, one per source, share one patient id",
        "label-conflict": "most copies carry another label than their original",
        "source-label-confounding": "the commonest finding comes from the first source only",
        "source-predictable": "the sources differ strongly in contrast, noise, border and marker",
        "metadata-predicts-label": "scans of the commonest finding have their own size, format and border",
        "lungs-masked-predicts-label": "scans of the commonest finding carry a marker outside the lungs",
        "population-confounding": "patients with effusion are old men imaged AP, the others are younger",
        "class-imbalance": "the rarest class falls below 1 % of the scans",
        "too-few-cases": "only 40 patients remain, the rarest classes with one or two of them",
        "missing-metadata": "patient ids, ages, sexes and views are blank for a fifth to two fifths",
        "quarantined-scans": "3 % of the files cannot be read: truncated JPEG, text named .png, empty",
    }
)
FAULTS: tuple[str, ...] = tuple(FAULT_EFFECTS)
"""Names of the faults that can be planted, after the audit checks that should notice them."""

SPLIT_FAULTS: frozenset[str] = frozenset({"duplicates-across-splits", "patient-across-splits"})

TOO_FEW_PATIENTS = 40
MIN_PATIENTS = 8
MIN_PATIENTS_IMBALANCE = 150
MIN_SIZE_PX, MAX_SIZE_PX = 64, 1024

SCANS_PER_PATIENT: Mapping[int, float] = MappingProxyType({1: 0.58, 2: 0.27, 3: 0.12, 4: 0.03})
DEFAULT_PREVALENCES: Mapping[str, float] = MappingProxyType(
    {"normal": 0.46, "pneumonia": 0.30, "effusion": 0.20, "nodule": 0.04}
)
INDEPENDENT_PREVALENCES: Mapping[str, float] = MappingProxyType({"pneumonia": 0.30, "effusion": 0.25, "nodule": 0.15})
DEFAULT_UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class SourceLook:
    """How pictures of one hospital look, whoever is in them.

    Attributes:
        name: written to the manifest's `source` column.
        share: part of the patients that come from here, 0..1; the shares add up to 1.
        gamma: exponent applied to grey values in 0..1; above 1 darkens.
        contrast: slope about mid-grey, 1 leaves the picture alone.
        noise: standard deviation of the noise at full brightness, in grey levels of 255.
        border_px: width of the black collimation frame at 224 px.
        marker: letters burnt in above the patient's right shoulder, "" for none.
        file_format: file type written.
    """

    name: str
    share: float
    gamma: float = 1.0
    contrast: float = 1.0
    noise: float = 5.0
    border_px: int = 0
    marker: str = "R"
    file_format: Literal["png", "jpeg"] = "png"


DEFAULT_SOURCES: tuple[SourceLook, ...] = (
    SourceLook("site-a", 0.6),
    SourceLook("site-b", 0.4, gamma=1.03, contrast=0.98, noise=5.3, file_format="jpeg"),
)
PREDICTABLE_SOURCES: tuple[SourceLook, ...] = (
    SourceLook("site-a", 0.6, gamma=0.8, contrast=1.25, noise=3.0),
    SourceLook(
        "site-b",
        0.4,
        gamma=1.4,
        contrast=0.75,
        noise=12.0,
        border_px=10,
        marker="PORT",
        file_format="jpeg",
    ),
)


@dataclass(frozen=True)
class PhantomSpec:
    """A pool of synthetic chest radiographs; equal specs give equal bytes.

    Attributes:
        num_patients: persons in the pool, at least 8.
        seed: the one number all randomness comes from, 0 or more.
        size_px: side of the square images, 64..1024 (a metadata fault may change some).
        scans_per_patient: number of scans (1..4) to its share of patients.
        findings: "exclusive" gives each scan one label; "independent" a column per finding, and a patient may have
            several of them, or none.
        prevalences: finding to its share of patients; exclusive ones add up to 1 with "normal".
        unknown_share: of independent findings, the part of the values that nobody noted, 0..0.5; 0 in a test split.
        sources: the hospitals.
        exact_duplicate_share: part of the scans repeated byte for byte, 0..0.5.
        near_duplicate_share: part of the scans repeated with small edits, 0..0.5.
        severity: how large and bright findings are, 0.5..2; 1 is hard for 100 labels, 1.5 is a demonstration.
        faults: names out of `FAULTS`.
        split: "official" adds an `official_split` column that keeps patients whole.

    Raises:
        ValueError: a value is out of range; says which, why and what to write instead.
    """

    num_patients: int = 400
    seed: int = 0
    size_px: int = 224
    scans_per_patient: Mapping[int, float] = field(default_factory=lambda: SCANS_PER_PATIENT)
    findings: Literal["exclusive", "independent"] = "exclusive"
    prevalences: Mapping[str, float] = field(default_factory=lambda: DEFAULT_PREVALENCES)
    unknown_share: float = DEFAULT_UNKNOWN_SHARE
    sources: tuple[SourceLook, ...] = DEFAULT_SOURCES
    exact_duplicate_share: float = 0.01
    near_duplicate_share: float = 0.015
    severity: float = 1.0
    faults: frozenset[str] = frozenset()
    split: Literal["none", "official"] = "none"

    def __post_init__(self) -> None:
        # A caller who keeps the dict must not be able to change a frozen spec through it.
        object.__setattr__(self, "scans_per_patient", MappingProxyType(dict(self.scans_per_patient)))
        # The default is of exclusive findings: with "normal" in it, nobody can mean it of independent ones.
        default = self.findings == "independent" and dict(self.prevalences) == dict(DEFAULT_PREVALENCES)
        prevalences = INDEPENDENT_PREVALENCES if default else self.prevalences
        object.__setattr__(self, "prevalences", MappingProxyType(dict(prevalences)))
        problems = [
            *_number_problems(self),
            *_share_problems(self),
            *_fault_problems(self),
        ]
        if problems:
            raise ValueError("phantom pool: " + "; ".join(problems))

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Callable[..., PhantomSpec], tuple[object, ...]]:
        # Read-only mapping views cannot be pickled, and Ray ships specs between processes.
        values: list[object] = [getattr(self, item.name) for item in fields(self)]
        plain = [dict(v) if isinstance(v, Mapping) else v for v in values]
        return (type(self), tuple(plain))

    @property
    def independent(self) -> tuple[str, ...]:
        """The findings that have a column each, in the order of `FINDINGS`; none when they are exclusive."""
        if self.findings == "exclusive":
            return ()
        return tuple(name for name in FINDINGS[1:] if self.prevalences.get(name, 0.0) > 0)

    @property
    def has_split(self) -> bool:
        """Whether the manifest has an `official_split` column."""
        return self.split == "official" or bool(self.faults & SPLIT_FAULTS)

    @property
    def looks(self) -> tuple[SourceLook, ...]:
        """The sources as rendered: a `source-predictable` fault replaces the looks."""
        if "source-predictable" not in self.faults:
            return self.sources
        if self.sources == DEFAULT_SOURCES:
            return PREDICTABLE_SOURCES
        loud = [PREDICTABLE_SOURCES[i % 2] for i in range(len(self.sources))]
        return tuple(
            SourceLook(**(asdict(look) | {"name": own.name, "share": own.share}))
            for own, look in zip(self.sources, loud, strict=True)
        )

    @property
    def fault_finding(self) -> str:
        """The commonest finding that is not "normal": the one label faults are tied to."""
        return max(FINDINGS[1:], key=lambda name: self.prevalences.get(name, 0.0))

    @property
    def rarest_finding(self) -> str:
        """The finding with the lowest prevalence above 0."""
        present = [name for name in FINDINGS[1:] if self.prevalences.get(name, 0.0) > 0]
        return min(present, key=lambda name: self.prevalences[name])

    def to_json(self) -> str:
        """Return the spec as canonical JSON: equal specs, equal text."""
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        values["scans_per_patient"] = {str(k): v for k, v in self.scans_per_patient.items()}
        values["prevalences"] = dict(self.prevalences)
        values["sources"] = [asdict(look) for look in self.sources]
        values["faults"] = sorted(self.faults)
        if self.findings == "exclusive":  # as before there were others, so that pools of then are found again
            del values["findings"], values["unknown_share"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_uri(cls, uri: str) -> PhantomSpec:
        """Read `phantom:` or `phantom:key=value,key=value` (faults, and prevalences `NAME:SHARE`, joined by `+`).

        Args:
            uri: for example `phantom:num_patients=300,seed=3,faults=near-duplicates`.

        Returns:
            The spec, with the class defaults for the keys not named.

        Raises:
            ValueError: not a phantom URI, an unknown or repeated key, a value that does not
                read, or a value that `PhantomSpec` refuses.
        """
        scheme, colon, body = uri.strip().partition(":")
        if scheme != "phantom" or not colon:
            raise ValueError(f"{uri!r} is not a phantom URI; write {_URI_EXAMPLE}")
        values: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in body.split(","))):
            key, equals, text = (piece.strip() for piece in part.partition("="))
            if not equals or key not in _URI_READERS:
                raise ValueError(f"{uri!r}: {_unknown('key', key, tuple(_URI_READERS))}")
            if key in values:
                raise ValueError(f"{uri!r}: key {key!r} is given twice; keep one of them")
            try:
                values[key] = _URI_READERS[key](text)
            except ValueError:
                want = _WANTED.get(_URI_READERS[key], "a number")
                raise ValueError(f"{uri!r}: {key}={text!r} is not {want}") from None
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{uri!r}: {error}") from None


def _read_faults(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split("+") if name.strip())


def _read_shares(text: str) -> dict[str, float]:
    pairs = [part.partition(":") for part in text.split("+")]
    shares = {name.strip(): float(share) for name, _, share in pairs}
    if len(shares) < len(pairs):
        raise ValueError("a finding is named twice")
    return shares


_WANTED: Mapping[object, str] = MappingProxyType(
    {int: "a whole number", _read_shares: "shares such as pneumonia:0.3+effusion:0.2, each finding once"}
)
_URI_EXAMPLE = "'phantom:' or 'phantom:num_patients=300,seed=3,faults=near-duplicates+class-imbalance'"
_URI_READERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "num_patients": int,
        "seed": int,
        "size_px": int,
        "exact_duplicate_share": float,
        "near_duplicate_share": float,
        "severity": float,
        "findings": str,
        "prevalences": _read_shares,
        "unknown_share": float,
        "faults": _read_faults,
        "split": str,
    }
)


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {name!r}; {hint}known: {', '.join(known)}"


def _number_problems(spec: PhantomSpec) -> list[str]:
    problems = []
    if spec.num_patients < MIN_PATIENTS:
        problems.append(f"num_patients is {spec.num_patients}; write {MIN_PATIENTS} or more")
    if spec.seed < 0:
        problems.append(f"seed is {spec.seed}; write 0 or more")
    if not MIN_SIZE_PX <= spec.size_px <= MAX_SIZE_PX:
        problems.append(f"size_px is {spec.size_px}; write {MIN_SIZE_PX} to {MAX_SIZE_PX}")
    for name in ("exact_duplicate_share", "near_duplicate_share"):
        share = cast(float, getattr(spec, name))
        if not 0 <= share <= 0.5:
            problems.append(f"{name} is {share}; write 0 to 0.5")
    if not 0.5 <= spec.severity <= 2.0:
        problems.append(f"severity is {spec.severity}; write 0.5 to 2")
    if spec.findings not in ("exclusive", "independent"):
        problems.append(f"findings is {spec.findings!r}; write 'independent' or leave it out")
    if not 0 <= spec.unknown_share <= 0.5:
        problems.append(f"unknown_share is {spec.unknown_share}; write 0 to 0.5")
    if spec.findings == "exclusive" and spec.unknown_share != DEFAULT_UNKNOWN_SHARE:
        problems.append("unknown_share is of independent findings; write findings=independent, too, or leave it out")
    if spec.split not in ("none", "official"):
        problems.append(f"split is {spec.split!r}; write 'official' or leave it out")
    return problems


def _share_problems(spec: PhantomSpec) -> list[str]:
    known = FINDINGS[1:] if spec.findings == "independent" else FINDINGS
    strange = [name for name in spec.prevalences if name not in known]
    problems = [f"prevalences: {_unknown('finding', name, known)}" for name in strange]
    if spec.findings == "independent" and any(not 0 <= share < 1 for share in spec.prevalences.values()):
        problems.append(f"prevalences are {list(spec.prevalences.values())}; write shares from 0 to below 1")
    if not any(spec.prevalences.get(name, 0.0) > 0 for name in FINDINGS[1:]):
        problems.append(f"prevalences has no finding; give one of {', '.join(FINDINGS[1:])} a share")
    if any(count not in (1, 2, 3, 4) for count in spec.scans_per_patient):
        problems.append(f"scans_per_patient has {sorted(spec.scans_per_patient)}; write counts 1 to 4")
    names = [look.name for look in spec.sources]
    if len(set(names)) < len(names):
        problems.append(f"sources has {names}; give each its own name")
    for what, shares in (
        *([("prevalences", list(spec.prevalences.values()))] if spec.findings != "independent" else []),
        ("scans_per_patient", list(spec.scans_per_patient.values())),
        ("shares of sources", [look.share for look in spec.sources]),
    ):
        if any(not 0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            problems.append(f"{what} are {shares}; write shares of 0 to 1 that add up to 1")
    for look in spec.sources:
        if look.gamma <= 0 or look.contrast <= 0 or look.noise < 0 or look.border_px < 0:
            problems.append(
                f"source {look.name!r} has gamma {look.gamma}, contrast {look.contrast}, noise "
                f"{look.noise}, border_px {look.border_px}; gamma and contrast must be above 0, "
                "noise and border_px 0 or more"
            )
        if look.file_format not in ("png", "jpeg"):
            problems.append(f"source {look.name!r} has format {look.file_format!r}; write png or jpeg")
    return problems


def _fault_problems(spec: PhantomSpec) -> list[str]:
    problems = [_unknown("fault", name, FAULTS) for name in sorted(spec.faults - set(FAULTS))]
    if spec.faults and spec.findings == "independent":
        problems.append("faults are planted in pools of exclusive findings only; leave out faults, or findings")
    two_source = spec.faults & {
        "patient-id-collision",
        "source-label-confounding",
        "source-predictable",
    }
    if two_source and len(spec.sources) < 2:
        problems.append(f"{', '.join(sorted(two_source))} needs two sources; sources has 1")
    if "class-imbalance" in spec.faults:
        if spec.num_patients < MIN_PATIENTS_IMBALANCE:
            problems.append(
                f"class-imbalance needs num_patients of {MIN_PATIENTS_IMBALANCE} or more to put a "
                f"class below 1 %; it is {spec.num_patients}"
            )
        if "too-few-cases" in spec.faults:
            problems.append("class-imbalance and too-few-cases contradict each other; plant one")
    if "population-confounding" in spec.faults and not spec.prevalences.get("effusion"):
        problems.append("population-confounding needs effusion; give it a share in prevalences")
    return problems
