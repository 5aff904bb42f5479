"""Facts about the evaluation and its results."""

from pipeline.pages.wording import count, decimal, interval, known, percent, plural, words
from pipeline.report import summary
from pipeline.report.cautions import cautions
from pipeline.report.checklists.fact import AUDIT, Fact, audit_words, see, see_check
from pipeline.report.gather import Row, RunData
from pipeline.report.methods import methods


def headline(run: RunData) -> Fact | None:
    """The result in plain sentences."""
    return Fact(" ".join(filter(None, summary.sentences(run))), (see("result", "result"),)) if run.scores else None


def metrics(run: RunData) -> Fact | None:
    """Which measures, from the evaluation's paragraph."""
    if not run.scores:
        return None
    more = dict(methods(run)).get("Evaluation", "")
    names = (
        "AUROC, AUPRC, accuracy, balanced accuracy, sensitivity, specificity, precision, F1, calibration error, "
        "Brier score"
    )
    return Fact(f"{names}. {more}", (see("findings", "by finding"), see("evaluation", "in detail")))


def uncertainty(run: RunData) -> Fact | None:
    """Cluster bootstrap, Holm."""
    draws = (run.config.get("evaluate") or {}).get("num_bootstrap")
    if not run.scores or not draws:
        return None
    text = "95% score intervals (Wilson; logit for AUROC and AUPRC) on the variance of "
    text += f"{plural(draws, 'bootstrap draw')} of whole patient groups"
    slices = "; sub-populations with p values after Holm" if (run.evaluation or {}).get("slices") else ""
    return Fact(f"{text}{slices}.", (see("methods", "methods"),))


def robustness(run: RunData) -> Fact | None:
    """Sub-populations, shortcuts, other sources, the random draw."""
    sentences, links = [], []
    if (run.evaluation or {}).get("slices"):
        sentences.append(f"The model on {plural(len((run.evaluation or {})['slices']), 'sub-population')}.")
        links.append(see("evaluation", "in detail"))
    if run.reference:
        sentences.append("The model beside one from a random choice of scans on the same budget.")
        links.append(see("learning", "learning curve"))
    if parts := _parts(run):
        names = {"shortcuts": "with the lungs erased or from the file alone", "external": "on a source left out"}
        sentences.append(f"The pool, not the model, by the audit’s own probes: {words(names[part] for part in parts)}.")
        links += [(f"audit: {part}", f"{AUDIT}#{part}") for part in parts]
    return Fact(" ".join(sentences), tuple(links)) if sentences else None


def _parts(run: RunData) -> list[str]:
    return [part for part in ("shortcuts", "external") if run.audit and getattr(run.audit, part)]


def internal_test(run: RunData) -> Fact | None:
    """The sealed holdout."""
    if not run.scores:
        return None
    size = f"{plural(run.scores.num_scans, 'scan')} in {plural(run.scores.num_groups, 'group')}"
    return Fact(f"A sealed holdout of {size}; no score is on training scans.", (see("findings", "by finding"),))


def external_test(run: RunData) -> Fact | None:
    """Tests of the run's model on other pools; what the audit's probes do on a source left out is no such test."""
    if not run.external:
        return None
    parts = [f"{name}: AUROC {_auroc(content.get('overall') or {})}" for name, content in run.external.items()]
    return Fact(f"{'; '.join(parts)}.", (see("evaluation", "external tests"),))


def _auroc(row: Row) -> str:
    return f"{decimal(row.get('auroc'))} ({interval(row.get('auroc_ci95'))})"


def performance(run: RunData) -> Fact | None:
    """AUROC, accuracy, balanced accuracy with their intervals."""
    scores = run.scores
    if not scores:
        return None
    shares = [
        f"accuracy {percent(scores.accuracy)} ({interval(scores.accuracy_ci95, as_percent=True)})",
        f"balanced accuracy {percent(scores.balanced_accuracy)} "
        f"({interval(scores.balanced_accuracy_ci95, as_percent=True)})",
    ]
    slices = (run.evaluation or {}).get("slices") or []
    more = f" {plural(len(slices), 'sub-population')} in the table." if slices else ""
    text = f"AUROC {decimal(scores.auroc)} ({interval(scores.auroc_ci95)}); {'; '.join(shares)}.{more}"
    return Fact(text, (see("findings", "by finding"), see("evaluation", "in detail")))


def accuracy(run: RunData) -> Fact | None:
    """Sensitivity and specificity of each finding."""
    rows = run.scores.per_class if run.scores else {}
    sentences = [
        f"{finding}: sensitivity {percent(row.sensitivity)}, specificity {percent(row.specificity)}"
        for finding, row in rows.items()
        if run.positive in (None, finding)
    ]
    return (
        Fact(f"{'; '.join(sentences)}.", (see("findings", "by finding"), see("evaluation", "in detail")))
        if sentences
        else None
    )


def measured(run: RunData) -> Fact | None:
    """Discrimination, calibration, net benefit: which of them were measured."""
    if not run.scores:
        return None
    more = run.evaluation or {}
    kinds = ["discrimination (AUROC)", "calibration (curve, ECE, Brier score)"]
    kinds += ["calibration slope and intercept"] if more.get("calibration") else []
    kinds += ["net benefit (decision curves)"] if more.get("decision_curve") else []
    without = "" if more.get("decision_curve") else " Net benefit was not evaluated; `cxr-ssl evaluate RUN` does it."
    return Fact(f"Evaluated: {words(kinds)}.{without}", (see("findings", "by finding"), see("evaluation", "in detail")))


def test_size(run: RunData) -> Fact | None:
    """Scans and positives, and what the audit says of the width of the interval."""
    scores = run.scores
    if not scores:
        return None
    rows = scores.per_class
    positives = words(f"{count(row.num_positive)} {finding}" for finding, row in rows.items())
    text = f"{plural(scores.num_scans, 'scan')} in {plural(scores.num_groups, 'group')}: {positives}."
    links = (see("findings", "by finding"), *see_check(run, "too-few-cases"))
    return Fact(f"{text} {audit_words(run, 'too-few-cases')}".strip(), links)


def study_size(run: RunData) -> Fact | None:
    """Labels and scans to learn from, scans to test on."""
    if not run.last:
        return None
    tested = f"; {plural(run.scores.num_scans, 'scan')} to test on" if run.scores else ""
    text = f"{plural(run.last.get('num_expert'), 'expert label')} to learn from{tested}."
    links = see_check(run, "too-few-cases") or (see("learning", "learning curve"),)
    return Fact(f"{text} {audit_words(run, 'too-few-cases')}".strip(), links)


def numbers(run: RunData) -> Fact | None:
    """Scans and events of each analysis."""
    sized = test_size(run)
    if sized is None or not run.last:
        return None
    expert = plural(run.last.get("num_expert"), "expert label")
    pseudo = plural(run.last.get("num_pseudo"), "pseudo-label")
    return Fact(f"Learning: {expert}, {pseudo}. Evaluation: {sized.text}", (see("flow", "data flow"),))


def clusters(run: RunData) -> Fact | None:
    """Performance by source."""
    rows = [r for r in (run.evaluation or {}).get("slices") or [] if r.get("by") == "source" and known(r.get("auroc"))]
    if rows:
        aurocs = "; ".join(f"{row.get('slice')} {_auroc(row)}" for row in rows[:6])
        return Fact(f"AUROC by source: {aurocs}.", (see("evaluation", "in detail"),))
    if len(run.flow.get("sources") or []) == 1:
        text = "One source: differences between clusters cannot be measured."
        return Fact(text, (see("flow", "data flow"),), applies=False)
    return None


def fairness(run: RunData) -> Fact | None:
    """Sub-populations compared, and which differ."""
    rows = (run.evaluation or {}).get("slices") or []
    if not rows:
        return None
    differ = [row for row in rows if known(row.get("p_holm")) and row["p_holm"] < 0.05]
    named = words(f"{row.get('by')} {row.get('slice')}".replace("_", " ") for row in differ[:4])
    by = words(sorted({str(row.get("by")).replace("_", " ") for row in rows}))
    outcome = (
        f"after Holm’s correction {named} differ."
        if differ
        else f"after Holm’s correction no difference is shown, which is not equality{_widest(rows)}."
    )
    return Fact(f"Performance by {by}; {outcome}", (see("evaluation", "sub-populations"),))


def _widest(rows: list[Row]) -> str:
    """The least that is known of any sub-population, in words."""
    intervals = [(row["auroc_ci95"][1] - row["auroc_ci95"][0], row) for row in rows if row.get("auroc_ci95")]
    if not intervals:
        return ": no sub-population has an interval of its AUROC"
    row = max(intervals, key=lambda item: item[0])[1]
    name = f"{row.get('by')} {row.get('slice')}".replace("_", " ")
    return f": the AUROC of {name} may be anything from {interval(row['auroc_ci95'])}"


def test_imbalance(run: RunData) -> Fact | None:
    """The holdout keeps its own class frequencies."""
    if not run.scores:
        return None
    text = "The holdout is scored as it is, at its own class frequencies: nothing is resampled or reweighted."
    return Fact(text, (see("findings", "by finding"),))


def resampling(run: RunData) -> Fact | None:
    """Performance does not come from resampling."""
    if not run.scores:
        return None
    text = "Performance comes from a sealed holdout, not from resampling; the bootstrap only gives intervals."
    return Fact(text, (see("methods", "methods"),), applies=False)


def failures(run: RunData) -> Fact | None:
    """Mistakes, most confident first."""
    if run.holdout is None:
        return None
    text = f"{plural(len(run.mistakes), 'mistake')} on the holdout; the most confident are shown with their pictures."
    return Fact(text, (see("mistakes", "failure gallery"),))


def limitations(run: RunData) -> Fact | None:
    """The cautions of the report."""
    texts = cautions(run) if run.rounds else []
    if not texts:
        return None
    return Fact(f"{plural(len(texts), 'limit')} found by machine: {' '.join(texts)}", (see("result", "cautions"),))
