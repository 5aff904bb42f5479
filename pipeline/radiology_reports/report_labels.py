"""What reports say of the scans of a pool, finding by finding: labels and spans, never the text.

`private/report_labels.parquet` of a run holds them. They are a tier of their own: no row of theirs is ever written to
the label table, so that nothing which counts experts' labels or pseudo-labels can count them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.config import Config
from pipeline.contracts.tables import Contract
from pipeline.pool.sources import Pool
from pipeline.radiology_reports import model_columns, texts
from pipeline.radiology_reports.labeler import SAYS, Statement, joined, read_report
from pipeline.radiology_reports.rules import Rules, load
from pipeline.radiology_reports.sections import sentences
from pipeline.runtime import run_files

COLUMNS = "columns"  # the source that another model filled
NOTHING_READ = "without a section that is read"
_OF_NO_POOL = (texts.EMPTY, texts.TOO_LONG, texts.OTHER_LETTERS)  # reasons for which no scan is looked for
REPORT_LABELS = Contract(
    "report_labels",
    pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),  # rules NAME, or columns
            pa.field("finding", pa.string(), nullable=False),
            pa.field("says", pa.string(), nullable=False),
            pa.field("start", pa.int32()),  # of the sentence, in characters of the report; null where there is none
            pa.field("end", pa.int32()),
        ]
    ),
    key=("image_id", "source", "finding"),
    values=(("says", SAYS),),
)


@dataclass
class ReportLabels:
    """What each source says.

    Attributes:
        of_source: Source to path of a scan, or its image_id, to finding to what is said.
        num_reports: Reports that were looked at.
        num_scans: Scans of the pool.
        reasons: What was left out or is worth a word, with counts.
        unknown: Findings asked for that the rules do not know.
        read_from: Address of each pool, and the source that was read of it.
        unmatched: Folder or table of reports to those in it of no scan, by their place; a pool's own column is none.
    """

    of_source: dict[str, dict[str, dict[str, Statement]]] = field(default_factory=dict)
    num_reports: int = 0
    num_scans: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unknown: tuple[str, ...] = ()
    read_from: frozenset[tuple[str, str]] = frozenset()
    unmatched: dict[str, set[int]] = field(default_factory=dict)

    def named(self, ids: Mapping[str, str]) -> "ReportLabels":
        """The same by image_id: of scans whose path is among `ids`."""
        of_source = {
            source: {ids[path]: said for path, said in of_scan.items() if path in ids}
            for source, of_scan in self.of_source.items()
        }
        return replace(self, of_source=of_source)

    def take(self, other: "ReportLabels") -> None:
        """Take in those of a further pool, by image_id; a scan that is known already keeps what it has."""
        for source, of_scan in other.of_source.items():
            own = self.of_source.setdefault(source, {})
            own.update({image_id: said for image_id, said in of_scan.items() if image_id not in own})
        if other.read_from <= self.read_from:
            return  # the same pool again: its reports are counted
        reasons, num_reports = other.reasons.copy(), other.num_reports
        for place, unmatched in other.unmatched.items():
            if place in self.unmatched:
                # One folder or table for both pools: what neither has a scan for is what counts.
                reasons[texts.NO_SCAN] -= len(self.unmatched[place] | unmatched)
                reasons.subtract({reason: other.reasons[reason] for reason in _OF_NO_POOL})
                num_reports = 0
            self.unmatched[place] = self.unmatched.get(place, unmatched) & unmatched
        self.num_reports += num_reports
        self.reasons += reasons
        self.read_from |= other.read_from

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Source to finding to how many scans have each of `SAYS`."""
        counted: dict[str, dict[str, dict[str, int]]] = {}
        for source, of_scan in self.of_source.items():
            own = counted.setdefault(source, {})
            for statements in of_scan.values():
                for finding, statement in statements.items():
                    own.setdefault(finding, dict.fromkeys(SAYS, 0))[statement.says] += 1
        return counted


def read(
    pool: Pool,
    config: Config,
    findings: Sequence[str] | None = None,
    studies: Callable[[str], Iterable[str]] = lambda study: (),
) -> ReportLabels:
    """Read the reports of a pool.

    Args:
        pool: As it was listed.
        config: Options.
        findings: The pool's names of findings; those the rules do not know are told. None: all that the rules know.
        studies: Paths of the scans of a study, by its id.

    Raises:
        InputError: the reports, the columns or the rules cannot be read.
    """
    labels = ReportLabels(num_scans=len(pool.scans))
    of_pool = texts.read(pool, config.pool, studies)
    if of_pool is not None:
        rules = load(config.reports.rules)
        names = _names(rules, findings)
        labels.unknown = tuple(name for name in findings or () if name not in names)
        labels.num_reports, labels.reasons = of_pool.num_reports, of_pool.reasons
        is_column = config.pool.reports is not None and texts.column_of(pool, config.pool.reports) is not None
        labels.unmatched = {} if is_column else {of_pool.where: of_pool.unmatched}
        labels.of_source[f"rules {rules.name}"] = _by_rules(of_pool.of_scan, rules, names, labels.reasons)
    if config.pool.report_labels:
        labels.of_source[COLUMNS] = model_columns.read(pool, config.pool.report_labels, labels.reasons)
    labels.read_from = frozenset((config.pool.uri, source) for source in labels.of_source)
    return labels


def write(folder: Path, labels: ReportLabels) -> None:
    """Keep the labels with a run, by image_id.

    Args:
        folder: The run.
        labels: By image_id.
    """
    rows = [
        (image_id, source, finding, statement.says, statement.start, statement.end)
        for source, of_scan in labels.of_source.items()
        for image_id, statements in of_scan.items()
        for finding, statement in statements.items()
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(REPORT_LABELS.schema)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, REPORT_LABELS.schema, strict=True)]
    place = folder / run_files.PRIVATE
    REPORT_LABELS.write(place, pa.table(arrays, schema=REPORT_LABELS.schema))
    place.chmod(0o700)


def read_before(folder: Path, image_ids: pa.ChunkedArray, sources: Sequence[str]) -> ReportLabels:
    """What an earlier try of a run kept of these scans by these sources; nothing where there was none."""
    place = run_files.path(folder, run_files.REPORT_LABELS)
    labels = ReportLabels()
    if place.exists():
        table = REPORT_LABELS.read(place.parent)
        table = table.filter(pc.is_in(table["image_id"], value_set=image_ids.combine_chunks()))
        table = table.filter(pc.is_in(table["source"], value_set=pa.array(sources, pa.string())))
        for row in table.to_pylist():
            of_scan = labels.of_source.setdefault(row["source"], {}).setdefault(row["image_id"], {})
            of_scan[row["finding"]] = Statement(row["says"], row["start"], row["end"])
    return labels


def kept(folder: Path, findings: Sequence[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Source to image_id to finding to what is said of these, in a run or its part; empty without reports."""
    place = run_files.path(folder, run_files.REPORT_LABELS)
    if not place.exists():
        return {}
    table = REPORT_LABELS.read(place.parent)
    table = table.filter(pc.is_in(table["finding"], value_set=pa.array(list(findings), pa.string())))
    columns = (table[name].to_pylist() for name in ("source", "image_id", "finding", "says"))
    out: dict[str, dict[str, dict[str, str]]] = {}
    for source, image_id, finding, says in zip(*columns, strict=True):
        out.setdefault(source, {}).setdefault(image_id, {})[finding] = says
    return out


def _names(rules: Rules, findings: Sequence[str] | None) -> dict[str, str]:
    """The pool's name of a finding to that of the rules."""
    if findings is None:
        return {own.name: own.name for own in rules.findings}
    return {name: own.name for name in findings if (own := rules.for_class(name)) is not None}


def _by_rules(
    of_scan: Mapping[str, Sequence[str]], rules: Rules, names: Mapping[str, str], reasons: Counter[str]
) -> dict[str, dict[str, Statement]]:
    """What the reports of each scan say; one of which nothing is read mentions nothing, and says nothing by that."""
    read_before: dict[str, dict[str, Statement]] = {}  # of several scans of one study there is one report
    out = {}
    for path, own in of_scan.items():
        for text in own:
            if text not in read_before:
                is_read = next(sentences(text, rules), None) is not None
                read_before[text] = read_report(text, rules) if is_read else {}
                reasons[NOTHING_READ] += not is_read
        statements = [read_before[text] for text in own if read_before[text]]
        if statements:
            out[path] = {name: joined([of_text[rule] for of_text in statements]) for name, rule in names.items()}
    return out
