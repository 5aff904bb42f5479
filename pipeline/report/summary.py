"""What a reader learns first: the result in plain sentences, and the key numbers with their meaning."""

from dataclasses import dataclass

from pipeline.contracts.healthy_class import healthy_among
from pipeline.measures.holdout_record import HoldoutMetrics, Interval
from pipeline.pages.wording import (
    MISSING,
    count,
    decimal,
    floor_percent,
    interval,
    known,
    of_100,
    percent,
    plural,
    words,
)
from pipeline.report.gather import Row, RunData
from pipeline.report.sections import false_alarms


@dataclass(frozen=True)
class Tile:
    """One key number: what it is, its value, and a line that puts it in proportion."""

    label: str
    value: str
    note: str


TIERS = {"surest": "surest part", "whole": "whole release"}


@dataclass(frozen=True)
class Precision:
    """One of the three precisions of the pseudo-labels, which must never be confused."""

    name: str
    value: str
    meaning: str
    note: str = ""


@dataclass(frozen=True)
class Certificate:
    """What blind expert checks prove about one tier of the frozen release."""

    finding: str
    row: Row

    @property
    def verdict(self) -> str:
        """Whether the promise is proven, and what is missing."""
        if self.row.get("holds"):
            return "certified"
        needed = self.row.get("checks_needed")
        if needed == 0:
            return "waits for the tier before it"
        return f"{plural(needed, 'more error-free check')} would certify" if known(needed) else "not certified"


def title(run: RunData) -> str:
    """The result in one line."""
    scores, last = run.scores, run.last
    if last is None:
        return "This run has no finished round yet"
    head = f"{plural(last.get('num_expert'), 'expert label')}, {plural(run.flow.get('train'), 'training scan')}"
    if scores is None:
        return f"{head}: the sealed holdout has no scores yet"
    what = run.positive or f"{len(run.findings)} classes"
    labels = plural(last.get("num_expert"), "expert label")
    return f"AUROC {decimal(scores.auroc)} for {what} from {labels}"


def sentences(run: RunData) -> list[str]:
    """The result for a clinician, in a few plain sentences, false alarms beside what is missed."""
    scores, last = run.scores, run.last
    if last is None:
        return [_waiting(run)]
    if scores is None:
        return [
            f"The model was trained on {plural(last.get('num_expert'), 'expert label')}, but no scan of the "
            "sealed holdout has an expert's answer yet, so this report cannot say how good it is.",
            *([_waiting(run)] if run.status.get("state") == "waiting" else []),
        ]
    what = f"finds {run.positive}" if run.positive else f"tells {words(run.findings)} apart"
    ci = scores.auroc_ci95
    return [
        f"With {plural(last.get('num_expert'), 'expert label')} among "
        f"{plural(run.flow.get('train'), 'training scan')}, the model {what} with an AUROC of "
        + decimal(scores.auroc)
        + (f" (95% interval {interval(ci)})" if ci else "")
        + f" on {plural(scores.num_scans, 'sealed holdout scan')} {_whose(run, scores)}.",
        _operating_point(run, scores),
        *false_alarms.sentences(run),
        of_what(run),
    ]


def of_what(run: RunData) -> str:
    """Which class counts as the finding, and what of it is said; of several classes, that the numbers are means."""
    if run.positive is None:
        return "Sensitivity, specificity, AUROC, AUPRC and F1 are means over all classes, each against the others."
    others = words(f for f in run.findings if f != run.positive)
    return f"Sensitivity, specificity, AUPRC and F1 are of {run.positive}: it is the finding, {others} its absence."


def _waiting(run: RunData) -> str:
    if not run.queues:
        return "No queue has been written and no round has finished, so there is nothing to score yet."
    number, rows = max(run.queues.items())
    open_rows = sum(scan.answer is None for scan in rows)
    return (
        f"Round {number} asks the experts for {plural(len(rows), 'label')}; "
        f"{plural(open_rows, 'scan still waits', 'scans still wait')} for an answer."
    )


def _whose(run: RunData, scores: HoldoutMetrics) -> str:
    patients = run.flow.get("holdout_patients")
    if patients is not None and run.flow.get("holdout") == scores.num_scans:
        return f"of {plural(patients, 'patient')}"
    return f"in {plural(scores.num_groups, 'group')} kept apart from the training scans"


def _operating_point(run: RunData, scores: HoldoutMetrics) -> str:
    per_class = scores.per_class
    healthy = healthy_among(run.findings)
    about = [run.positive] if run.positive else [f for f in run.findings if f in per_class and f not in healthy]
    parts = []
    for finding in about:
        row = per_class.get(finding)
        if row and row.sensitivity is not None:
            parts.append(_share_of(row.sensitivity, row.tp, row.fn, f"scans with {finding}"))
    if not parts:
        return ""
    text = f"At the operating point it finds {words(parts)}"
    row = per_class.get(run.positive) if run.positive else None
    if row and row.specificity is not None:
        text += f" and clears {_share_of(row.specificity, row.tn, row.fp, 'scans without it')}"
    return text + "."


def _share_of(share: float, num_right: int, num_wrong: int, what: str) -> str:
    """`94 of 100 scans with it (231 of 246 here)`; of fewer than 100 scans the plain counts."""
    total = num_right + num_wrong
    if total < 100:
        return f"{count(num_right)} of {count(total)} {what} ({percent(share, 0)})"
    return f"{of_100(share)} of 100 {what} ({count(num_right)} of {count(total)} here)"


def tiles(run: RunData) -> list[Tile]:
    """The key numbers, most important first."""
    expert, train = (run.last or {}).get("num_expert"), run.flow.get("train")
    share = (
        f"{percent(expert / train)} of {plural(train, 'training scan')}" if expert and train else "in the training pool"
    )
    num_answers = sum(row["num_answers"] for row in run.annotators.get("annotators") or [])
    if num_answers > (expert or 0):  # the sealed holdout, second readings and scans that are no good are answered too
        num_sealed = (run.flow.get("kinds") or {}).get("holdout")
        of_them = f", {count(num_sealed)} of scans of the holdout" if num_sealed else ""
        share += f"; people gave {plural(num_answers, 'answer')} in all{of_them}"
    return [Tile("Expert labels", count(expert), share), *_score_tiles(run, run.scores)]


def _score_tiles(run: RunData, scores: HoldoutMetrics | None) -> list[Tile]:
    if scores is None:
        unscored = [Tile(name, MISSING, "no holdout scores yet") for name in ("AUROC", "Accuracy")]
        return [*unscored, Tile("Balanced accuracy", MISSING, _ci(None))]
    pair = scores.auroc_ci95
    auroc_note = f"95% interval {interval(pair)}" if pair else "too few patients for an interval"
    return [
        Tile("AUROC", decimal(scores.auroc), auroc_note + _macro(run)),
        Tile("Accuracy", percent(scores.accuracy), _baseline(scores)),
        Tile("Balanced accuracy", percent(scores.balanced_accuracy), _ci(scores.balanced_accuracy_ci95)),
    ]


def _macro(run: RunData) -> str:
    return "; mean over the findings" if run.scores and run.positive is None else ""


def _ci(pair: Interval) -> str:
    return f"95% interval {interval(pair, as_percent=True)}" if pair else "every class counts the same"


def _baseline(scores: HoldoutMetrics) -> str:
    always = max(scores.prevalence, key=lambda f: scores.prevalence[f])
    majority = percent(scores.majority_accuracy)
    return f"{_ci(scores.accuracy_ci95)}; always answering “{always}” scores {majority}"


def precisions(run: RunData) -> list[Precision]:
    """Estimated, certified and realised precision of the accepted pseudo-labels, each with its meaning."""
    last = run.last or {}
    release = last.get("release") or {}
    confidence = percent(release["confidence"], 0) if release else "95%"
    bound = last.get("pseudo_precision_certified")
    return [
        Precision(
            "Estimated",
            percent(last.get("pseudo_precision_estimated"))
            if known(last.get("pseudo_precision_estimated"))
            else "none",
            "What the model expects of its own labels, from cross-checks against the expert labels. "
            "Good enough to train on; not proof.",
        ),
        Precision(
            "Certified",
            f"≥ {floor_percent(bound)}" if known(bound) else "nothing yet",
            f"What blind checks by experts prove with {confidence} confidence, looked at after every answer, of "
            f"{_released(release)}.",
            _release_note(release),
        ),
        Precision(
            "Realised",
            percent(last.get("pseudo_precision")) if known(last.get("pseudo_precision")) else "not known",
            "How many truly are correct. Only a benchmark or a demo can know this, because the pool "
            "brings its own answers.",
        ),
    ]


def _released(release: Row) -> str:
    if not release:
        return "a frozen release; this run has none yet"
    tier = release.get("certified_tier") or release["tiers"][0]["tier"]
    whole = f"the {plural(release['num_scans'], 'pseudo-label')} frozen after round {release['round']}"
    return whole if tier == "whole" else f"the surest {release['num_surest']} of {whole}"


def _release_note(release: Row) -> str:
    """What is still to be checked, and how many releases there were."""
    if not release:
        return "No blind check of a pseudo-label has been recorded."
    first = release["tiers"][0]
    promise = percent(release["promise"], 0)
    checked = f"{plural(first['num_errors'], 'error')} in {plural(first['num_checked'], 'blind check')}"
    number = release.get("num_releases", 1)
    several = f" This is release {number}; each has an error of its own." if number > 1 else ""
    if release.get("certified_tier"):
        return f"{checked}: the promise of {promise} holds.{several}"
    if release.get("checks_needed") is None:
        return f"{checked}: the promise of {promise} cannot be certified any more.{several}"
    return f"{checked}; {plural(release['checks_needed'], 'more error-free check')} would certify {promise}.{several}"


def certificates(run: RunData) -> list[Certificate]:
    """One per tier of the frozen release, in the order in which they are claimed; none before it."""
    release = (run.last or {}).get("release") or {}
    shared = {name: release.get(name) for name in ("promise", "confidence")}
    return [Certificate(TIERS[tier["tier"]], tier | shared) for tier in release.get("tiers", [])]


def against_random(run: RunData) -> str:
    """What choosing the scans gained over drawing them at random on the same budget."""
    if not run.scores or not run.last:
        return ""
    same = [r for r in run.reference if r.get("round") == run.last.get("round") and r.get("holdout")]
    if (run.config.get("strategy") or {}).get("name") == "random":
        return "This run draws its scans at random itself, so there is nothing to compare."
    if not same and any(row.get("holdout") for row in run.reference):
        last = max(row["round"] for row in run.reference if row.get("holdout"))
        return (
            f"Scans drawn at random were tried up to round {last}, and not on the budget of now: what choosing the "
            "scans has gained by now is not known."
        )
    if not same:
        return "No random draw on the same budget was run, so what choosing the scans gained is not known."
    auroc, random_auroc = run.scores.auroc, same[-1]["holdout"].get("auroc")
    if not (known(auroc) and known(random_auroc)):
        return ""
    return (
        f"On the same budget{_of_labels(run, same[-1])}, scans drawn at random reach "
        f"an AUROC of {decimal(random_auroc)} against {decimal(auroc)} here. That is one run of each: a difference "
        "smaller than the interval may be luck."
    )


def _of_labels(run: RunData, reference: Row) -> str:
    """How many labels both had; nothing where a finding was unknown in more of the scans of one of them."""
    num = (run.last or {}).get("num_expert")
    return f" of {plural(num, 'label')}" if num == reference.get("num_expert") else ""
