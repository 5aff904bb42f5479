"""What limits the result, found in the run's own data and said in plain sentences."""

from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.pages.wording import count, decimal, known, of_100, percent, plural, words
from pipeline.report.gather import Row, RunData, measured, on_the_last_holdout
from pipeline.report.sections import class_labels

SMALL_CLASS = 50  # positives below which an interval says little
WIDE_PREVALENCE_GAP = 0.10
LARGE_ECE = 0.10
CLEARLY_HIGHER = 0.005


def cautions(run: RunData) -> list[str]:
    """What limits the result, from the run's own data; the first always holds."""
    texts = ["Research use only: this is not a medical device, and it has not been tested in care."]
    texts += _about_pool(run)
    texts += [f"{text[0].upper()}{text[1:]}." for text in class_labels.warnings(run)]
    if run.scores:
        texts += _about_scores(run, run.scores)
        texts += _about_course(run, run.scores)
    rolled = [row["round"] for row in run.rounds if row.get("rolled_back")]
    if rolled:
        which = f"Round {rolled[0]} was" if len(rolled) == 1 else f"Rounds {words(map(str, rolled))} were"
        texts.append(
            f"{which} rolled back: the new model was worse on its calibration labels, so the one before it was kept."
        )
    last = run.last or {}
    if last.get("num_pseudo") and not known(last.get("pseudo_precision_certified")):
        texts.append("The precision of the pseudo-labels is an estimate; no blind checks certify it yet.")
    if run.audit and run.audit.verdict != "valid":
        texts.append(f"The audit's verdict on this run is “{run.audit.verdict}”; what it found stands there.")
    for name, content in run.external.items():
        shared = content.get("audit") or {}
        if shared.get("verdict") == "invalid":
            texts.append(f"The audit of the external test {name} says “invalid”: its numbers are not evidence either.")
        seen = shared.get("num_shared_patients") or shared.get("num_copies")
        if seen and not shared.get("num_left_out"):
            texts.append(
                f"The external test {name} is not independent: {_shared(shared)} with the pool this model learnt from."
            )
    return texts


def _shared(row: Row) -> str:
    patients, copies = row.get("num_shared_patients"), row.get("num_copies")
    parts = [f"it shares {plural(patients, 'patient')}"] if patients else []
    return words([*parts, f"it has {plural(copies, 'copy', 'copies')} of a scan in common"] if copies else parts)


def _about_course(run: RunData, scores: HoldoutMetrics) -> list[str]:
    texts, auroc = [], scores.auroc
    if auroc is None or not known(auroc):
        return []
    comparable = on_the_last_holdout(run.rounds)
    best, best_auroc = max(measured(comparable, "holdout", "auroc"), key=lambda pair: pair[1])
    if best_auroc > auroc + CLEARLY_HIGHER:
        texts.append(
            f"Round {best['round']} scored higher on the holdout (AUROC {decimal(best_auroc)}). This report stays "
            "with the last round: choosing a round by the holdout would flatter it."
        )
    budget = (run.last or {}).get("num_expert")
    rounds = {row["round"] for row in comparable}
    reference = [row for row in run.reference if row.get("round") in rounds]
    random = [v for row, v in measured(reference, "holdout", "auroc") if row.get("num_expert") == budget]
    if random and random[-1] >= auroc:
        texts.append(
            "Scans drawn at random did no worse on the same budget, so here choosing them gained nothing measurable."
        )
    return texts


def _about_pool(run: RunData) -> list[str]:
    flow, texts = run.flow, []
    uri = str((run.config.get("pool") or {}).get("uri", ""))
    if uri.startswith("phantom:"):
        texts.append(
            "The scans are computer-drawn phantoms: the numbers show that the software works "
            "and say nothing about patients."
        )
    if run.config.get("oracle"):
        texts.append("No expert took part: the labels the queue asked for were looked up in the pool's own labels.")
    if flow.get("readable"):
        sources = flow["sources"]
        if len(sources) < 2:
            where = f"come from one source ({sources[0]})" if sources else "name no source"
            texts.append(f"All scans {where}, so nothing here shows that the model works elsewhere.")
        if flow["no_patient"]:
            texts.append(
                f"{plural(flow['no_patient'], 'scan names', 'scans name')} no patient, "
                "so one person could have scans on both sides of the split."
            )
    if run.backbone.get("num_holdout_seen"):
        texts.append(
            f"The backbone was pretrained, unlabelled, on {plural(run.backbone['num_holdout_seen'], 'scan')} of the "
            "holdout: the figures here are better than they would be on scans it has never seen."
        )
    if flow.get("quarantined"):
        was = "was" if flow["quarantined"] == 1 else "were"
        texts.append(f"{plural(flow['quarantined'], 'file')} could not be used and {was} set aside; see Data flow.")
    return texts


def _about_scores(run: RunData, scores: HoldoutMetrics) -> list[str]:
    texts = []
    small = {f: row.num_positive for f, row in scores.per_class.items() if row.num_positive < SMALL_CLASS}
    if small:
        parts = words(f"{count(number)} with {finding}" for finding, number in small.items())
        texts.append(f"The holdout is small: only {parts}. Read the intervals, not only the numbers.")
    if scores.accuracy_ci95 and scores.accuracy_ci95[0] <= scores.majority_accuracy:
        texts.append("Accuracy is not clearly better than always giving the commonest answer.")
    pool = (run.last or {}).get("prevalence") or {}
    gaps = {f: (pool[f], p) for f, p in scores.prevalence.items() if known(pool.get(f))}
    wide = {f: pair for f, pair in gaps.items() if abs(pair[0] - pair[1]) > WIDE_PREVALENCE_GAP}
    if wide:
        finding, (in_pool, in_holdout) = max(wide.items(), key=lambda item: (abs(item[1][0] - item[1][1]), item[0]))
        texts.append(
            f"Holdout and training pool differ: {finding} makes up {percent(in_holdout, 0)} of the holdout "
            f"and an estimated {percent(in_pool, 0)} of the training pool."
        )
    if scores.ece > LARGE_ECE:
        texts.append(
            f"The model's confidence is off by {of_100(scores.ece)} percentage points on average: "
            "use its scores to rank scans, not as a risk."
        )
    return texts
