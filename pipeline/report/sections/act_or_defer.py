"""What the model may decide alone, at what promised error, and what is missing where it may not."""

from dataclasses import dataclass

from pipeline.measures.act_or_defer import NO, YES
from pipeline.pages.wording import decimal, interval, percent, plural
from pipeline.report.gather import Row, RunData

_WHAT = {"class": ("class",), "decided": ("decided",), "both": ("class", "decided")}


@dataclass(frozen=True)
class SideRow:
    """One answer of one finding; `missing` is empty where it is certified."""

    finding: str
    answer: str
    probability: str
    share: float
    num_labels: str
    missing: str


@dataclass(frozen=True)
class Alone:
    """Sentences, and a row for each finding and answer."""

    texts: tuple[str, ...]
    rows: tuple[SideRow, ...]


def alone(run: RunData) -> Alone | None:
    """What `act_or_defer.json` says; None where no promise was asked for."""
    certified = run.act_or_defer
    if certified is None:
        return None
    texts = [_promise(certified)]
    if not certified["is_current"]:
        texts.insert(0, "Of an earlier model than the one of the last round: nothing here may be used any more.")
    texts += [_shares(finding, row) for finding, row in certified["findings"].items()]
    rows = [
        _row(finding, answer, row, certified["promise_of"])
        for finding, row in certified["findings"].items()
        for answer in (NO, YES)
    ]
    return Alone(tuple(texts), tuple(rows))


def _promise(certified: Row) -> str:
    error, confidence = percent(certified["promised_error"]), percent(certified["confidence"], 0)
    of = {
        "class": f"of the scans with a finding at most {error} are answered “no” by the model alone, and of the scans "
        f"without it at most {error} “yes”",
        "decided": f"of the scans that the model answers “no” alone at most {error} have the finding, and of those it "
        f"answers “yes” at most {error} do not, at the prevalence of the holdout",
    }
    promises = "; ".join(of[kind] for kind in _WHAT[certified["promise_of"]])
    return (
        f"Promise, each with {confidence} confidence, for patients like those of the sealed holdout, each counted "
        f"once: {promises}. It rests on one scan of each of {plural(certified['num_patients'], 'patient')}. All "
        f"answers of this table together hold with {percent(certified['confidence_together'], 0)} confidence."
    )


def _shares(finding: str, row: Row) -> str:
    if row["share_alone"] == 0.0:
        return f"{finding}: the model decides nothing alone; a person reads every scan."
    return (
        f"{finding}: the model decides {percent(row['share_alone'])} of these patients’ scans alone (95% interval "
        f"{interval(row['share_alone_ci95'], as_percent=True)}): {percent(row['share_no'])} no, "
        f"{percent(row['share_yes'])} yes. A person is asked about {percent(row['share_ask'])}."
    )


def _row(finding: str, answer: str, row: Row, promise_of: str) -> SideRow:
    side = row["sides"][answer]
    at, sign = side["threshold_prob"], "≤" if answer == NO else "≥"
    labels = ", ".join(str(side["by_promise"][kind]["num_labels"]) for kind in _WHAT[promise_of])
    share = row["share_no"] if answer == NO else row["share_yes"]
    probability = "–" if at is None else f"{sign} {decimal(at)}"
    return SideRow(finding, answer, probability, share, labels, "" if side["certified"] else missing(side))


def missing(side: Row) -> str:
    """Why a side is left to people, and how many more labels would carry it."""
    more = side["num_missing_labels"]
    if more is None:
        return f"{side['why_not']}: more labels alone will not help; learn a better model first"
    return f"{side['why_not']}: about {plural(more, 'more labelled patient')} if all of them are answered rightly"
