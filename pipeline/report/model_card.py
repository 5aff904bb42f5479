"""`report/model_card.md`: what the model is for, what it learned from, how it scored, and what limits it."""

import re

from pipeline.measures.holdout_record import Interval
from pipeline.pages.template_env import slices_in_order
from pipeline.pages.wording import (
    MISSING,
    count,
    decimal,
    interval,
    moment,
    named,
    p_value,
    percent,
    place,
    plural,
    signed,
    signed_interval,
    words,
)
from pipeline.report import site_point, summary
from pipeline.report.cautions import cautions
from pipeline.report.gather import Row, RunData
from pipeline.report.methods import classifier_words, joined_when
from pipeline.report.regulators.papers import LEFT
from pipeline.report.sections import act_or_defer, growth


def model_card(run: RunData) -> str:
    """The card as Markdown; every number is the run's own."""
    parts = [
        f"# Model card: {_plain(run.folder.resolve().name)}",
        " ".join(_plain(text) for text in summary.sentences(run) if text),
        "## Audit",
        _audit(run),
        "## Intended use",
        "Research on label-efficient chest X-ray classification: ordering a pool of scans for expert "
        "reading and studying how far a few expert labels reach.",
        f"{LEFT} the intended users, patients and setting of care, if there is to be any beyond research.",
        "## Out of scope",
        _out_of_scope(run),
        "## Findings",
        _findings(run),
        "## Data",
        _data(run),
        "## Labels",
        _labels(run),
        "## Performance on the sealed holdout",
        _performance(run),
        *_adapted_to_the_site(run),
        *_growing(run),
        *_act_or_defer(run),
        *_detail(run),
        "## Limits",
        "\n".join(f"- {_plain(text)}" for text in cautions(run)),
        f"{LEFT} clinical risks, and who answers for the model in use.",
        "## Heat maps",
        "Not part of this card. `cxr-ssl predict --heat-maps` shows them only where their checks pass on this model, "
        "and with the caution that such maps localise worse than radiologists do.",
        "## How it was made",
        _made(run),
    ]
    return "\n\n".join(parts) + "\n"


def _findings(run: RunData) -> str:
    if not run.findings:
        return "None recorded yet."
    marks = {run.positive: " (the finding that sensitivity and specificity are of)"}
    return "\n".join(f"- {_plain(finding)}{marks.get(finding, '')}" for finding in run.findings)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _audit(run: RunData) -> str:
    audit = run.audit
    if audit is None:
        return "This run was not audited: nothing here says whether its pool is fit to learn from."
    lines = [f"**{audit.verdict}.** {_plain(audit.reason)} {_plain(audit.meaning)}"]
    for row in audit.overrides:
        check = "every finding" if row.get("check") == "all" else str(row.get("check"))
        when = f", {moment(row.get('time'))}" if row.get("time") else ""
        lines.append(f"> Overridden in writing ({_plain(check)}{_plain(when)}): “{_plain(str(row.get('because')))}”")
    return "\n\n".join([*lines, "Every check with its evidence: `audit.html`."])


def _out_of_scope(run: RunData) -> str:
    lines = ["Diagnosis, triage or any decision about a patient."]
    if run.audit is not None and run.audit.verdict == "invalid":
        lines.append("Any claim about performance: the audit's verdict is “invalid”.")
    if run.finding is not None:
        lines.append(f"Findings other than {run.finding}.")
    elif run.findings:
        lines.append(f"Findings other than {words(run.findings)}, and scans with several of them.")
    sources = run.flow.get("sources") or []
    named = f" than {words(sources)}" if 0 < len(sources) <= 6 else ""
    lines.append(f"Other places, devices or populations{named}, until tested there.")
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _data(run: RunData) -> str:
    flow, pool = run.flow, run.config.get("pool") or {}
    rows = [
        ["Pool", _plain(place(pool.get("uri", MISSING)))],
        *(
            [
                f"Joined {joined_when(part['after_round'])}",
                f"{_plain(place(part['pool']))}, {plural(part['num_new'], 'new scan')}",
            ]
            for part in run.growth
        ),
        ["Scans found", count(flow.get("found"))],
        *([["Not chosen (pool.where)", count(flow["num_not_chosen"])]] if flow.get("num_not_chosen") else []),
        ["Set aside as unusable", count(flow.get("quarantined"))],
        ["Training pool", count(flow.get("train"))],
        ["Sealed holdout", count(flow.get("holdout"))],
        ["Sources", _plain(words(flow.get("sources") or [])) or "not named"],
    ]
    return _table(["", ""], rows)


def _labels(run: RunData) -> str:
    last = run.last
    if last is None:
        return "No round has finished yet."
    lines = [
        f"- Expert labels: {count(last.get('num_expert'))}"
        + (" (looked up in the pool's own labels)" if run.config.get("oracle") else ""),
        f"- Pseudo-labels: {count(last.get('num_pseudo'))}",
    ]
    lines += [
        f"- Precision of the pseudo-labels, {p.name.lower()}: {p.value}. {p.meaning}" for p in summary.precisions(run)
    ]
    return "\n".join(lines)


def _performance(run: RunData) -> str:
    scores = run.scores
    if scores is None:
        return "No holdout scan has been scored."
    overall = _table(
        ["metric", "value", "95% interval"],
        [
            ["AUROC", decimal(scores.auroc), interval(scores.auroc_ci95)],
            ["AUPRC", decimal(scores.auprc), interval(scores.auprc_ci95)],
            ["Accuracy", *_share(scores.accuracy, scores.accuracy_ci95)],
            ["Balanced accuracy", *_share(scores.balanced_accuracy, scores.balanced_accuracy_ci95)],
            ["Sensitivity", *_share(scores.sensitivity, scores.sensitivity_ci95)],
            ["Specificity", *_share(scores.specificity, scores.specificity_ci95)],
            ["F1", decimal(scores.f1), interval(scores.f1_ci95)],
            ["Calibration error (ECE)", decimal(scores.ece), MISSING],
            ["Brier score", decimal(scores.brier), MISSING],
        ],
    )
    per_class = _table(
        ["finding", "scans", "AUROC", "95% interval", "sensitivity", "specificity", "precision"],
        [
            [
                _plain(finding),
                count(row.num_positive),
                decimal(row.auroc),
                interval(row.auroc_ci95),
                *(percent(share) for share in (row.sensitivity, row.specificity, row.precision)),
            ]
            for finding, row in scores.per_class.items()
        ],
    )
    size = f"{plural(scores.num_scans, 'scan')} in {plural(scores.num_groups, 'group')}."
    return f"{size}\n\n{overall}\n\n{per_class}"


def _adapted_to_the_site(run: RunData) -> list[str]:
    """The operating point of a site beside the run's own, where one was set."""
    site = site_point.adapted(run)
    if site is None:
        return []
    head = ["operating point", "accuracy", "95%", "sensitivity", "95%", "specificity", "95%"]
    rows = [
        [
            row.name,
            *_share(row.accuracy, row.accuracy_ci95),
            *_share(row.sensitivity, row.sensitivity_ci95),
            *_share(row.specificity, row.specificity_ci95),
        ]
        for row in site.rows
    ]
    return ["## Adapted to the site", f"{_plain(site.text)}\n\n{_table(head, rows)}"]


def _growing(run: RunData) -> list[str]:
    """The model before a pool joined beside that of now, on the same scans; nothing of a run that never grew."""
    grown = growth.growth(run)
    if grown is None:
        return []
    rows = [
        [
            f"{row['name']} ({plural(row['num_scans'], 'scan')}): {named(metric['metric'])}",
            decimal(metric["first"]),
            decimal(metric["second"]),
            f"{signed(metric['difference'])} ({signed_interval(metric['difference_ci95'])})",
        ]
        for row in grown.rows
        for metric in row["metrics"]
    ]
    table = f"\n\n{_table(['holdout', 'before', 'now', 'difference (95%)'], rows)}" if rows else ""
    return ["## What growing did", _plain(grown.text) + table]


def _act_or_defer(run: RunData) -> list[str]:
    """What the model may decide alone; nothing where no promise was asked for."""
    alone = act_or_defer.alone(run)
    if alone is None:
        return []
    rows = [
        [
            f"{_plain(row.finding)}: {row.answer}",
            row.probability,
            percent(row.share),
            row.num_labels,
            _plain(row.missing),
        ]
        for row in alone.rows
    ]
    head = ["answer", "at a probability", "share of patients", "labels", "why a person is asked"]
    return ["## Act or defer", f"{' '.join(map(_plain, alone.texts))}\n\n{_table(head, rows)}"]


def _detail(run: RunData) -> list[str]:
    """Calibration, sub-populations and external tests, each where it was measured."""
    evaluation = run.evaluation or {}
    parts: list[str] = []
    if evaluation.get("calibration"):
        rows = [
            [
                _plain(str(row.get("finding"))),
                f"{decimal(row.get('slope'), 2)} ({interval(row.get('slope_ci95'), digits=2)})",
                f"{signed(row.get('intercept'), 2)} ({signed_interval(row.get('intercept_ci95'), 2)})",
            ]
            for row in evaluation["calibration"]
        ]
        note = "Slope 1 and intercept 0 are perfect. Below 1: too sure. Below 0: it says the finding too often."
        parts += ["## Calibration", f"{note}\n\n{_table(['finding', 'slope (95%)', 'intercept (95%)'], rows)}"]
    if evaluation.get("slices"):
        head = ["slice", "scans", "AUROC (95%)", "accuracy", "against the rest", "p, Holm"]
        parts += ["## By sub-population", _table(head, [_slice(row) for row in slices_in_order(evaluation["slices"])])]
    if run.external:
        rows = [_external(name, content.get("overall") or {}) for name, content in run.external.items()]
        parts += ["## External tests", _table(["pool", "scans", "AUROC (95%)", "accuracy"], rows)]
    return parts


def _slice(row: Row) -> list[str]:
    return [
        _plain(f"{row.get('by')}: {row.get('slice')}".replace("_", " ")),
        count(row.get("num_scans")),
        f"{decimal(row.get('auroc'))} ({interval(row.get('auroc_ci95'))})",
        percent(row.get("accuracy")),
        signed(row.get("difference")),
        _plain(p_value(row.get("p_holm"))),
    ]


def _external(name: str, overall: Row) -> list[str]:
    auroc = f"{decimal(overall.get('auroc'))} ({interval(overall.get('auroc_ci95'))})"
    return [_plain(name), count(overall.get("num_scans")), auroc, percent(overall.get("accuracy"))]


def _share(value: float | None, pair: Interval) -> list[str]:
    return [percent(value), interval(pair, as_percent=True)]


def _made(run: RunData) -> str:
    versions = run.env.get("versions") or {k: v for k, v in run.env.items() if not isinstance(v, dict | list)}
    backbone = (run.config.get("backbone") or {}).get("name", MISSING)
    lines = [
        f"- Backbone: {_plain(str(backbone))}",
        f"- Classifier: {classifier_words(run)}",
        f"- Queue strategy: {_plain(str((run.config.get('strategy') or {}).get('name', MISSING)))}",
        f"- Seed: {_plain(str(run.config.get('seed', MISSING)))}",
        *(f"- {_plain(str(name))}: {_plain(str(value))}" for name, value in versions.items()),
        "- Full configuration: `resolved.yaml`; every number of every round: `metrics.jsonl`.",
    ]
    return "\n".join(lines)
