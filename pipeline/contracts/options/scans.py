"""Options of the pool: where scans come from, when two are one picture, which are sealed."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from pipeline.contracts import conditions
from pipeline.contracts.finding_line import plain
from pipeline.contracts.healthy_class import is_negative
from pipeline.contracts.options.section import Name, Section

KNOWN_COLUMNS = (
    "image_path",
    "label",
    "patient_id",
    "source",
    "population",
    "age",
    "sex",
    "view",
    "official_split",
    "reader",
)
# Rules by which files that are no frontal chest radiographs are left out, in the order they are asked.
SetAside = Literal["other-modality", "localizer", "other-body-part", "for-processing", "lateral"]
SET_ASIDE_RULES: tuple[SetAside, ...] = get_args(SetAside)
White = Annotated[int, Field(ge=1, le=65_535)]


class PoolConfig(Section):
    """Where the scans come from and what their columns mean."""

    uri: str = Field(
        "phantom:",
        description="Folder, ZIP archive, DICOMDIR, a table of scans (CSV, TSV, XLSX or Parquet, also packed with "
        "gzip), a public set as its owner ships it (`nih:FOLDER`, `chexpert:FOLDER`, ...), `medmnist:NAME`, "
        "`phantom:`.",
    )
    root: str | None = Field(
        None,
        description="Folder that the paths in the table begin in; a relative one lies beside the table. null: the "
        "table's own, or a folder above it where the files are.",
    )
    where: dict[str, conditions.Written] = Field(
        default_factory=dict,
        description="Which scans are taken: a column of the table, or view, age, sex, laterality, manufacturer, to a "
        "value, a list of values or a comparison: {view: [PA], age: '>= 18', modality: not CT}. The others are counted "
        "by reason; where a value is not known, the scan is left out unless `unknown` is in the list.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description=f"Known column to the manifest's own column name; known: {', '.join(KNOWN_COLUMNS)}.",
    )
    patient_regex: str | None = Field(
        None, description="Regular expression on the path inside the pool; its first group is the patient id."
    )
    findings: tuple[Name, ...] | None = Field(
        None, description="Classes, or independent findings, in a fixed order; null takes the pool's labels, sorted."
    )
    findings_are: Literal["exclusive", "independent"] = Field(
        "exclusive",
        description="exclusive: every scan is of one class; independent: it may show several findings, or none, and "
        "of each it is known or not (NaN) whether it is there.",
    )
    finding: Name | None = Field(
        None,
        description="Of independent findings the one this run is about; a run sets it in its folders findings/NAME.",
    )
    positive: Name | None = Field(
        None,
        description="Of two classes the finding, which sensitivity, specificity and AUPRC are of. null: the "
        "one that is not called healthy (normal, no finding, none, negative, control, no X, non-X).",
    )
    reports: str | None = Field(
        None,
        description="Radiology reports of the scans: a column of the pool's table with their text, a folder of .txt "
        "files, or a table (CSV, TSV, XLSX, Parquet) with a column of scan or study ids and one of text. They are read "
        "by `reports.rules`; the text stays in the pool. null: none.",
    )
    report_labels: dict[Name, str] = Field(
        default_factory=dict,
        description="Finding to the column of the pool's table that another model filled from the reports (1 present, "
        "0 absent, -1 uncertain, blank not mentioned): a second source, or one without the text.",
    )
    max_pixels: int = Field(
        100_000_000, ge=1, description="A scan with more pixels is quarantined before it is decoded."
    )
    max_bytes: int = Field(
        268_435_456, ge=1, le=1_073_741_824, description="A longer file is quarantined; no more of it is read."
    )
    max_memory_mb: int = Field(
        512,
        ge=16,
        le=65_536,
        description="A scan whose picture would take more memory while it is decoded, pixels times bytes a pixel, is "
        "quarantined before it is.",
    )
    max_frames: int = Field(
        1000, ge=1, description="A file with more pictures in it is quarantined; of fewer the first is used."
    )
    allow_outside: tuple[Literal["links", "parents", "addresses"], ...] = Field(
        (),
        description="What may lead out of the pool's folder: links, `..` in a path (parents), addresses of another "
        "storage than the table's own, such as http:// or chained ones. What is not allowed is quarantined unread.",
    )
    allow_burned_in_text: bool = Field(
        False,
        description="Hand on the pictures of scans into which text seems to be burnt, or is by their tags, too. false: "
        "they stay out of queue files, reports, manifests for others and releases; the page of `annotate` shows them.",
    )
    max_seconds: float = Field(
        30.0, gt=0.0, le=3600.0, description="A scan that takes longer to decode is quarantined; its decoder is ended."
    )
    white: Literal["auto"] | White | Annotated[tuple[White, ...], Field(min_length=1)] = Field(
        "auto",
        description="Grey value that is white, in files of 16 bits that do not say how many bits count. auto: the pool "
        "decides once, by the largest values of its scans (255, 1023, 4095, 16383, 32767 or 65535). Of several: the "
        "smallest that holds the values of the scan and is at most 2 bits wider, else the scan's own, as `evaluate "
        "--pool` and `predict` set it to those of the run.",
    )
    set_aside: tuple[SetAside, ...] = Field(
        SET_ASIDE_RULES,
        description="DICOM files that are left out, counted by reason: of another modality (CT, ...), localizers, of "
        "another body part, raw detector values (for-processing), lateral views. [] keeps them all.",
    )

    @property
    def asks_several(self) -> bool:
        """Whether a run of this pool asks for several findings of each scan."""
        return self.findings_are == "independent" and self.finding is None

    @model_validator(mode="after")
    def _columns_are_known(self) -> "PoolConfig":
        independent = self.findings_are == "independent"
        own = (*(self.findings or ()), *([self.finding] if self.finding else [])) if independent else ()
        for name, written in self.where.items():
            try:
                conditions.parse(written)
            except ValueError as error:
                raise ValueError(f"where.{name}: {error}") from None
        empty = [finding for finding in own if is_negative(finding)]
        if empty:
            raise ValueError(
                f"findings: {empty[0]!r} says that there is none; leave it out: a scan is read so by that word, or by "
                "a column of that name"
            )
        unknown = sorted(set(self.columns) - {*KNOWN_COLUMNS, *own})
        if unknown:
            raise ValueError(f"columns: unknown {unknown}; known are {', '.join(KNOWN_COLUMNS)}")
        fewest = 1 if independent else 2
        if self.findings is not None and len(set(self.findings)) < max(fewest, len(self.findings)):
            raise ValueError(f"findings: name at least {'one' if independent else 'two classes'}, and none twice")
        _refuse_alike(self.findings or ())
        if self.finding is not None and not independent:
            raise ValueError(
                "finding: only one of independent findings can be chosen; set findings_are: independent, or "
                "findings (with an s) to name the classes of scans that have one each"
            )
        if self.finding is not None and self.findings is not None and self.finding not in self.findings:
            raise ValueError(f"finding: {self.finding!r} is not among findings")
        if self.positive is not None and independent:
            raise ValueError("positive: of independent findings each is asked for by itself; leave it out")
        return self


class DuplicatesConfig(Section):
    """When two scans count as the same picture."""

    max_bits: int = Field(44, ge=0, le=100, description="Candidates: differing bits of the picture hash, of 255.")
    min_correlation: float = Field(
        0.75, ge=0.5, le=1.0, description="Confirmed: correlation of fine detail at 128x128 pixels, after alignment."
    )
    changed: bool = Field(
        True,
        description="Also look for copies that were turned, mirrored, shifted, cropped, padded or written upon. "
        "Reads every scan once more.",
    )
    min_block_correlation: float = Field(
        0.55,
        ge=0.5,
        le=1.0,
        description="Confirmed, for those: correlation of detail that a third of 7x7 blocks of 128x128 pixels reach, "
        "after alignment.",
    )
    max_block_shift_px: float = Field(
        0.4,
        gt=0.0,
        le=5.0,
        description="And median shift that the blocks still ask for, in pixels of 128; films of a person ask more.",
    )
    min_kept_detail: float = Field(
        0.3,
        ge=0.0,
        le=2.0,
        description="And of the finest detail of the poorer picture, the part that both share: phantoms share none.",
    )
    looks_a_scan: float = Field(
        0.3,
        ge=0.0,
        le=10.0,
        description="Candidates, for those: pairs a scan that are worth reading their pixels, beside the nearly sure; "
        "500 at least in any pool.",
    )


_PUBLIC_SALTS = ("cxr-ssl", "change-me")  # stood in older versions for everybody to read


class SplitsConfig(Section):
    """How the sealed holdout is set apart."""

    column: Literal["auto", "none"] = Field(
        "auto", description="auto: the pool's own split column where it has one; none: ignore it."
    )
    holdout_fraction: float = Field(
        0.2, gt=0.0, lt=0.9, description="Share of groups sealed when the pool brings no split."
    )
    holdout_source: str | None = Field(
        None, description="Seal every scan of this source: an external test. Wins over column and holdout_fraction."
    )
    draw: str = Field(
        "cxr-ssl",
        min_length=1,
        description="Name of the draw. One name seals the same patients of a pool in every run; another name seals "
        "others.",
    )
    salt: str | None = Field(
        None,
        min_length=1,
        exclude=True,
        repr=False,
        description="Secret key of the hash that hides the ids of patients. null: the run draws its own. It is kept in "
        "`private/salt` of the run and nowhere else. Give several runs one secret where their patients must be "
        "matched.",
    )

    @field_validator("salt")
    @classmethod
    def _is_secret(cls, salt: str | None) -> str | None:
        return None if salt in _PUBLIC_SALTS else salt


def _refuse_alike(findings: tuple[str, ...]) -> None:
    """Refuse names without a letter, and two that differ in case and blanks alone: they are read as one.

    Raises:
        ValueError: naming them.
    """
    if not all(plain(finding) for finding in findings):
        raise ValueError("findings: one of them is blank")
    first: dict[str, str] = {}
    for finding in findings:
        other = first.setdefault(plain(finding), finding)
        if other != finding:
            raise ValueError(f"findings: {other!r} and {finding!r} are one; name it once")
