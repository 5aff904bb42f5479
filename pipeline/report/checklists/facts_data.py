"""Facts about the data: where scans come from, who is on which side, what is missing."""

from pipeline.contracts.tables import LABELS, MANIFEST, SPLIT_TABLE
from pipeline.pages.wording import count, decimal, interval, known, percent, plural, words
from pipeline.report.checklists.fact import AUDIT, REPORT, Fact, audit_words, file, see, see_check, settings
from pipeline.report.gather import Row, RunData
from pipeline.report.methods import labelled_by, methods, split_rule


def _paragraph(run: RunData, name: str) -> str | None:
    return dict(methods(run)).get(name)


def data_sources(run: RunData) -> Fact | None:
    """The pool, its files and patients."""
    text = _paragraph(run, "Data")
    return Fact(text, (see("flow", "data flow"), file(run, MANIFEST.file))) if text else None


def sources(run: RunData) -> Fact | None:
    """How many sources, and their names."""
    source_counts = run.flow.get("sources")
    return (
        Fact(f"{plural(len(source_counts), 'source')}: {words(source_counts[:8])}.", (file(run, MANIFEST.file),))
        if source_counts
        else None
    )


def exclusions(run: RunData) -> Fact | None:
    """Files set aside and scans on neither side."""
    flow = run.flow
    if not flow.get("found"):
        return None
    chosen = [(f"{reason} (pool.where)", number) for reason, number in flow.get("not_chosen") or ()]
    why = [*chosen, *flow["reasons"], *flow["left_out"]]
    reasons = "; ".join(f"{reason} {count(number)}" for reason, number in why)
    number = flow["quarantined"] + sum(number for _, number in [*chosen, *flow["left_out"]])
    text = f"{plural(number, 'file was', 'files were')} left out by the software" + (
        f": {reasons}." if reasons else "."
    )
    return Fact(text, (see("flow", "data flow"), file(run, MANIFEST.file)))


def flow(run: RunData) -> Fact | None:
    """Counts at each step."""
    counts = run.flow
    if not counts.get("found"):
        return None
    parts = [f"{plural(counts['found'], 'file')} found", f"{count(counts['readable'])} readable"]
    if known(counts.get("train")):
        parts += [f"{count(counts['train'])} in the training pool", f"{count(counts['holdout'])} in the sealed holdout"]
    return Fact(f"{words(parts)}; the diagram shows every step.", (see("flow", "data flow diagram"),))


def preprocessing(run: RunData) -> Fact | None:
    """The same steps for every scan."""
    size = run.backbone.get("size_px") or (run.config.get("preprocess") or {}).get("size_px")
    if not size:
        return None
    text = (
        "Grey levels by the range of the file’s type, colour to luminance, orientation applied; the whole scan "
        f"squashed to {size}×{size} px, nothing cropped. The same steps for every scan, patient and source."
    )
    return Fact(text, (see("methods", "methods"), settings(run)))


def preparation(run: RunData) -> Fact | None:
    """Preprocessing and the audit's quality checks."""
    steps = preprocessing(run)
    if steps is None:
        return None
    audited = f" The pool was audited with {plural(len(run.audit.checks), 'check')}." if run.audit else ""
    return Fact(steps.text + audited, (*steps.links, *((("audit", AUDIT),) if run.audit else ())))


def subsets(run: RunData) -> Fact | None:
    """Whether anything but the split chose scans."""
    if not known(run.flow.get("train")):
        return None
    out = run.flow["left_out"]
    rest = f" Left out: {'; '.join(f'{reason} {count(number)}' for reason, number in out)}." if out else ""
    return Fact(f"The readable scans were divided {split_rule(run)}.{rest}", (see("flow", "data flow"),))


def deidentification(run: RunData) -> Fact | None:
    """What the software does with patient ids."""
    if not run.flow.get("found"):
        return None
    text = (
        "Patient ids are kept as keyed hashes only, and pictures in the report carry no metadata of their files. "
        "File names are kept as they are, so they must not name a patient."
    )
    return Fact(text, (file(run, MANIFEST.file),))


def missing(run: RunData) -> Fact | None:
    """Unknown patients, ages and labels, and what was done about them."""
    counts, side = run.flow, run.sides.get("train") or {}
    if not counts.get("readable"):
        return None
    parts = [f"{plural(counts['no_patient'], 'scan names', 'scans name')} no patient"]
    if side:
        parts.append(f"{plural(side['num_age_unknown'], 'training scan has', 'training scans have')} no age")
    text = (
        f"Unreadable files are set aside with a reason ({count(counts['quarantined'])}); {words(parts)}. "
        "Nothing is imputed: metadata are not input to the model, and a scan without a label is not learnt from as one."
    )
    return Fact(text, (*see_check(run, "missing-metadata"), see("flow", "data flow")))


def test_missing(run: RunData) -> Fact | None:
    """Holdout scans without an answer."""
    scores, sealed = run.scores, run.flow.get("holdout")
    if not scores or sealed is None:
        return None
    without = sealed - scores.num_scans
    text = f"{plural(without, 'holdout scan')} of {count(sealed)} had no usable answer and {_was(without)} not scored."
    return Fact(text, (see("flow", "data flow"),))


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def acquisition(run: RunData) -> Fact | None:
    """Views, where the pool names them."""
    views = [f"{name}: {_listed(side['view'], side)}" for name, side in _named(run) if side.get("view")]
    return Fact(f"Views, {'; '.join(views)}.", (file(run, MANIFEST.file),)) if views else None


def _named(run: RunData) -> list[tuple[str, Row]]:
    names = {"train": "training pool", "holdout": "holdout"}
    return [(names[side], row) for side, row in run.sides.items()]


def _listed(shares: list[tuple[str, int]], side: Row) -> str:
    return ", ".join(f"{value} {percent(number / side['num_scans'], 0)}" for value, number in shares)


def characteristics(run: RunData) -> Fact | None:
    """Age, sex, view and source of each side, where any of them is known."""
    parts = []
    for name, side in _named(run):
        ages = side["age_quartiles_years"]
        texts = [f"median age {ages[1]:.0f}"] if ages else []
        texts += [f"{key} {_listed(side[key], side)}" for key in ("sex", "view", "source") if side[key]]
        parts.append(f"{name} ({plural(side['num_scans'], 'scan')}): {'; '.join(texts) or 'nothing known'}")
    if not parts or not any(side["age_quartiles_years"] or side["sex"] or side["source"] for _, side in _named(run)):
        return None
    return Fact(". ".join(parts) + ".", ((("who is on each side"), f"{REPORT}#flow"),))


def sides(run: RunData) -> Fact | None:
    """Both sides beside each other, where there are both."""
    fact = characteristics(run) if len(run.sides) == 2 else None
    return Fact(f"{fact.text} One pool, split {split_rule(run)}.", fact.links) if fact else None


def coverage(run: RunData) -> Fact | None:
    """Sub-populations that labels do not reach."""
    if not run.audit or not run.audit.slices:
        return None
    bare = [row for row in run.audit.slices if row.get("num_scans") and row.get("num_labelled") == 0]
    named = words(f"{row.get('by')} {row.get('slice')}".replace("_", " ") for row in bare[:4])
    text = f"{plural(len(run.audit.slices), 'sub-population')} counted; {count(len(bare))} without any label"
    return Fact(f"{text}{f' ({named})' if bare else ''}.", (("audit: slices", f"{AUDIT}#slices"),))


def partition(run: RunData) -> Fact | None:
    """How scans came to a side, with numbers."""
    text = _paragraph(run, "Splits")
    return Fact(text, (see("methods", "methods"), file(run, SPLIT_TABLE.file))) if text else None


def disjoint(run: RunData) -> Fact | None:
    """The unit that is never divided, and what the audit says of it."""
    if not known(run.flow.get("groups")):
        return None
    unknown = run.flow["no_patient"]
    limit = (
        f" Of {plural(unknown, 'scan')} the patient is not known; there only copies keep together." if unknown else ""
    )
    ids = ("patient-across-splits", "duplicates-across-splits")
    return Fact(
        f"By patient, with exact and near copies joined: {plural(run.flow['groups'], 'group')}."
        f"{limit} {audit_words(run, *ids)}",
        tuple(link for check_id in ids for link in see_check(run, check_id)) or (see("flow", "data flow"),),
    )


def leakage(run: RunData) -> Fact | None:
    """The same, with the log of the holdout's reads."""
    fact = disjoint(run)
    if fact is None:
        return None
    reads = f" The holdout was read {plural(len(run.access), 'time')}, each logged." if run.access else ""
    return Fact(fact.text + reads, (*fact.links, see("access", "holdout reads")))


def reference_standard(run: RunData) -> Fact | None:
    """Which findings, and who gave the labels."""
    if not run.findings:
        return None
    return Fact(
        f"One of {plural(len(run.findings), 'finding')} a scan: {words(run.findings)}; labels {labelled_by(run)}.",
        (file(run, LABELS.file),),
    )


def annotators(run: RunData) -> Fact | None:
    """How many people labelled."""
    named = run.flow.get("annotators") or []
    if run.config.get("oracle") or named == ["oracle"]:
        return Fact("No expert took part: labels were looked up in the pool.", (see("queues", "queues"),))
    return Fact(f"{plural(len(named), 'annotator')}.", (see("queues", "queues"),)) if named else None


def reader_agreement(run: RunData) -> Fact | None:
    """Agreement between annotators, and of each with herself, where scans were read twice."""
    agreed = run.annotators.get("agreement") or {}
    parts = []
    if (agreed.get("share") or {}).get("num_scans"):
        share, alpha = agreed["share"], agreed["krippendorff"]
        parts.append(
            f"{plural(share['num_scans'], 'scan')} read by two annotators or more: two readings agree on "
            f"{percent(share['value'])}; Krippendorff’s alpha {decimal(alpha['value'])} ({interval(alpha['ci95'])})"
        )
    again = [row["share"] for row in agreed.get("intra") or [] if row["share"]["num_scans"]]
    if again:
        same = sum(share["value"] * share["num_scans"] for share in again if share["value"] is not None)
        total = sum(share["num_scans"] for share in again)
        parts.append(f"{plural(total, 'scan')} read again by the same annotator: {percent(same / total)} alike")
    return Fact(". ".join(parts) + ".", (see("annotators", "who labelled"),)) if parts else None


def test_annotation(run: RunData) -> Fact | None:
    """Where the holdout's answers come from."""
    if not run.scores:
        return None
    text = (
        "Holdout answers are the pool’s own labels where it has them, else experts’, given blind to model and reason."
    )
    return Fact(text, (see("methods", "methods"),))


def blinding(run: RunData) -> Fact | None:
    """What annotators do not see."""
    if run.config.get("oracle") or not run.flow.get("annotators"):
        return None
    text = (
        "Annotators see neither the model’s proposal nor why a scan was chosen; "
        "a random part of each queue is drawn blind."
    )
    return Fact(text, (see("queues", "queues"),))


def label_consistency(run: RunData) -> Fact | None:
    """Copies whose labels differ."""
    text = audit_words(run, "label-conflict")
    return Fact(text, see_check(run, "label-conflict")) if text else None


def test_sources(run: RunData) -> Fact | None:
    """The holdout's sources."""
    side = run.sides.get("holdout") or {}
    if not side.get("source"):
        return None
    return Fact(f"Holdout by source: {_listed(side['source'], side)}.", (see("flow", "who is on each side"),))
