"""False alarms beside missed findings, in plain words: how many healthy scans the model would call a finding."""

from pipeline.contracts import finding_line
from pipeline.contracts.healthy_class import healthy_among
from pipeline.measures.holdout_record import ClassMetrics, HoldoutMetrics, Interval
from pipeline.pages.wording import count, interval, percent, plural, words
from pipeline.report.gather import RunData

MOST_NAMED = 4  # classes in a sentence; the table has all


def sentences(run: RunData) -> list[str]:
    """What a reader asks before the first patient: false alarms and missed findings of the sealed holdout."""
    scores = run.scores
    if scores is None:
        return []
    if run.positive is not None and run.positive in scores.per_class:
        row = scores.per_class[run.positive]
        texts = [_alarms_of_one(run, row, run.positive), _missed(row, f"{{}} with {run.positive}")]
    else:
        texts = [_alarms_of_healthy(run, scores), _by_class(run, scores)]
    return [text for text in texts if text]


def _alarms_of_one(run: RunData, row: ClassMetrics, positive: str) -> str:
    """Of two classes: scans without the finding that are called it."""
    num_without = row.fp + row.tn
    if not num_without:
        return ""
    other = next((finding for finding in run.findings if finding != positive), "")
    scans = f"{plural(num_without, 'holdout scan')} without {positive}"
    if [other] == healthy_among(run.findings):
        scans = f"{plural(num_without, 'healthy scan')} of the holdout"
        scans += "" if other in finding_line.question(positive) else f" ({other})"
    would = f"the model would call {count(row.fp)} {positive}"
    return f"False alarms: of {scans} {would}, {_share(row.fp, num_without, row.specificity_ci95)}."


def _missed(row: ClassMetrics, what: str) -> str:
    num_with = row.tp + row.fn
    if not num_with:
        return ""
    scans = what.format(plural(num_with, "scan"))
    return f"Missed: of {scans} it would miss {count(row.fn)}, {_share(row.fn, num_with, row.sensitivity_ci95)}."


def _alarms_of_healthy(run: RunData, scores: HoldoutMetrics) -> str:
    """Of several classes: what healthy scans are called, and how many findings are called healthy."""
    healthy = [finding for finding in healthy_among(run.findings) if finding in scores.per_class]
    if len(healthy) != 1 or len(scores.confusion) != len(run.findings):
        return ""
    row, place = scores.per_class[healthy[0]], run.findings.index(healthy[0])
    called = [(num, finding) for finding, num in zip(run.findings, scores.confusion[place], strict=True)]
    named = [f"{count(num)} {finding}" for num, finding in called if num and finding != healthy[0]]
    if not row.num_positive:
        return ""
    text = (
        f"False alarms: of {plural(row.num_positive, 'healthy scan')} of the holdout ({healthy[0]}) the model would "
        f"call {count(row.fn)} a finding, {_share(row.fn, row.num_positive, row.sensitivity_ci95)}"
    )
    text += f": {words(named)}. " if named else ". "
    return (
        text
        + f"Of {plural(row.fp + row.tn, 'scan')} with a finding it would call {count(row.fp)} {healthy[0]}, "
        + (f"{_share(row.fp, row.fp + row.tn, row.specificity_ci95)}.")
    )


def _by_class(run: RunData, scores: HoldoutMetrics) -> str:
    """False alarms and missed scans of each finding, the most false alarms first."""
    healthy = healthy_among(run.findings)
    rows = {f: row for f, row in scores.per_class.items() if f not in healthy and row.fp + row.tn and row.num_positive}
    worst = sorted(rows.items(), key=lambda item: (-item[1].fp / (item[1].fp + item[1].tn), item[0]))
    parts = [
        f"{finding}: {count(row.fp)} of {count(row.fp + row.tn)} scans without it called it "
        f"({_share(row.fp, row.fp + row.tn, row.specificity_ci95, ', ')}), "
        f"{count(row.fn)} of {count(row.num_positive)} with it missed "
        f"({_share(row.fn, row.num_positive, row.sensitivity_ci95, ', ')})"
        for finding, row in worst[:MOST_NAMED]
    ]
    more = len(worst) - MOST_NAMED
    rest = f"; {plural(more, 'more class', 'more classes')} in the table" if more > 0 else ""
    return f"By class, the most false alarms first: {'; '.join(parts)}{rest}." if parts else ""


def _share(num: int, total: int, ci95_of_right: Interval, link: str = "") -> str:
    """`12.0% (95% interval 8.1–16.5%)` of a share of wrong calls, from the interval of the right ones."""
    share = percent(num / total)
    if not ci95_of_right:
        return share
    low, high = ci95_of_right
    bounds = f"95% interval {interval([1.0 - high, 1.0 - low], as_percent=True)}"
    return f"{share}{link}{bounds}" if link else f"{share} ({bounds})"
