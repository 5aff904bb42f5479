"""`report/model_card.md`: what the model is for, what it learned from, how it scored, and what limits it."""

import re

from pipeline.report import summary
from pipeline.report.cautions import cautions
from pipeline.report.gather import Row, RunData
from pipeline.report.wording import MISSING, count, decimal, interval, percent, plural, words


def model_card(run: RunData) -> str:
    """The card as Markdown; every number is the run's own."""
    parts = [
        f"# Model card: {_plain(run.folder.resolve().name)}",
        " ".join(_plain(text) for text in summary.sentences(run) if text),
        "## Intended use",
        "Research on label-efficient chest X-ray classification: ordering a pool of scans for expert "
        "reading and studying how far a few expert labels reach. Not for diagnosis, triage or any "
        "decision about a patient.",
        "## Findings",
        "\n".join(f"- {_plain(finding)}" for finding in run.findings) or "None recorded yet.",
        "## Data",
        _data(run),
        "## Labels",
        _labels(run),
        "## Performance on the sealed holdout",
        _performance(run),
        "## Limits",
        "\n".join(f"- {_plain(text)}" for text in cautions(run)),
        "## How it was made",
        _made(run),
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _data(run: RunData) -> str:
    flow, pool = run.flow, run.config.get("pool") or {}
    rows = [
        ["Pool", _plain(str(pool.get("uri", MISSING)))],
        ["Scans found", count(flow.get("found"))],
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
            ["AUROC", decimal(scores.get("auroc")), interval(scores.get("auroc_ci95"))],
            ["AUPRC", decimal(scores.get("auprc")), MISSING],
            *(_share(scores, key) for key in ("accuracy", "balanced_accuracy", "sensitivity", "specificity")),
            ["F1", decimal(scores.get("f1")), interval(scores.get("f1_ci95"))],
            ["Calibration error (ECE)", decimal(scores.get("ece")), MISSING],
            ["Brier score", decimal(scores.get("brier")), MISSING],
        ],
    )
    per_class = _table(
        ["finding", "scans", "AUROC", "95% interval", "sensitivity", "specificity", "precision"],
        [
            [
                _plain(finding),
                count(row.get("num_positive")),
                decimal(row.get("auroc")),
                interval(row.get("auroc_ci95")),
                *(percent(row.get(key)) for key in ("sensitivity", "specificity", "precision")),
            ]
            for finding, row in (scores.get("per_class") or {}).items()
        ],
    )
    size = f"{plural(scores.get('num_scans'), 'scan')} in {plural(scores.get('num_groups'), 'group')}."
    return f"{size}\n\n{overall}\n\n{per_class}"


def _share(scores: Row, key: str) -> list[str]:
    return [
        key.replace("_", " ").capitalize(),
        percent(scores.get(key)),
        interval(scores.get(f"{key}_ci95"), as_percent=True),
    ]


def _made(run: RunData) -> str:
    versions = run.env.get("versions") or {k: v for k, v in run.env.items() if not isinstance(v, dict | list)}
    backbone = (run.config.get("backbone") or {}).get("name", MISSING)
    lines = [
        f"- Backbone: {_plain(str(backbone))}",
        f"- Queue strategy: {_plain(str((run.config.get('strategy') or {}).get('name', MISSING)))}",
        f"- Seed: {_plain(str(run.config.get('seed', MISSING)))}",
        *(f"- {_plain(str(name))}: {_plain(str(value))}" for name, value in versions.items()),
        "- Full configuration: `resolved.yaml`; every number of every round: `metrics.jsonl`.",
    ]
    return "\n".join(lines)
