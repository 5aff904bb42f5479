"""What a report says of an operating point adapted to a site: always beside the run's own, never in its place."""

from dataclasses import dataclass

from pipeline.measures.holdout_record import HoldoutMetrics, Interval
from pipeline.pages.wording import count, decimal, percent, plural, words
from pipeline.report.gather import Row, RunData


@dataclass(frozen=True)
class PointRow:
    """One operating point on the run's sealed holdout."""

    name: str
    accuracy: float | None
    accuracy_ci95: Interval
    sensitivity: float | None
    sensitivity_ci95: Interval
    specificity: float | None
    specificity_ci95: Interval


@dataclass(frozen=True)
class Site:
    """The operating point adapted to a site, in words, and both points side by side."""

    text: str
    rows: tuple[PointRow, ...]


def adapted(run: RunData) -> Site | None:
    """What `evaluation.json` says under `site`; None where no site was given."""
    facts: Row = (run.evaluation or {}).get("site") or {}
    if not facts or run.scores is None:
        return None
    weights: dict[str, float] = facts["operating_weights"]
    finding = run.positive or list(weights)[-1]
    cut = weights[finding] / sum(weights.values())  # the call is the larger of probability over weight
    shares = words(f"{percent(share, 0)} {name}" for name, share in facts["mean_probability"].items())
    scores = HoldoutMetrics.from_json(facts["holdout"])
    text = (
        f"Adapted to the site: from {plural(facts['num_scans'], 'unlabelled scan')} of the place where the model will "
        f"be used, {finding} is called there from a probability of {decimal(cut, 2)} on, halfway to the valley of "
        f"their scores. By the model’s own probabilities they are {shares}; no label was read. Of the "
        f"{count(scores.num_scans)} sealed scans of this run, which are not of that site, "
        f"{count(facts['num_changed'])} are called otherwise. Test it on labelled scans of the site before use."
    )
    return Site(text, (_row("the run’s own", run.scores), _row("adapted to the site", scores)))


def _row(name: str, scores: HoldoutMetrics) -> PointRow:
    return PointRow(
        name,
        scores.accuracy,
        scores.accuracy_ci95,
        scores.sensitivity,
        scores.sensitivity_ci95,
        scores.specificity,
        scores.specificity_ci95,
    )
