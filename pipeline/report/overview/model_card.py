"""`report/model_card.md` of a run of independent findings: what all share under one head, then a section a finding."""

import re

from pipeline.pages.wording import MISSING, count, decimal, floor_percent, interval, percent, words
from pipeline.report.methods import answers_with_head, software
from pipeline.report.model_card import model_card
from pipeline.report.overview.data import Overview, Part
from pipeline.report.overview.page import cautions, page_of, sentences

_SHARED = ("Audit", "Intended use", "Data")  # of an ordinary card, as the run's own files fill them
_OWN = ("Audit", "Labels", "Performance on the sealed holdout", "Calibration", "By sub-population", "External tests")
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def card(overview: Overview) -> str:
    """The card as Markdown; every number is the run's own."""
    shared = sections(model_card(overview.as_run))
    parts = [
        f"# Model card: {_plain(overview.folder.resolve().name)}",
        " ".join(_plain(text) for text in sentences(overview)),
        *(f"## {name}\n\n{shared[name]}" for name in _SHARED),
        "## Out of scope",
        _out_of_scope(overview),
        "## Findings",
        _findings(overview),
        "## Limits",
        "\n".join(f"- {_plain(text)}" for text in cautions(overview)),
        "## How it was made",
        _made(overview),
        *(_section(overview, part) for part in overview.parts),
    ]
    return "\n\n".join(parts) + "\n"


def sections(text: str) -> dict[str, str]:
    """Heading to body of a card's parts; a name in the run cannot make a heading, as `#` is escaped in all of them."""
    pieces = _HEADING.split(text)[1:]
    return {name: body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def _section(overview: Overview, part: Part) -> str:
    """What the finding's own card says of it alone, one level down."""
    own, common = sections(part.card), cautions(overview)
    if "Audit" in own:
        own["Audit"] = own["Audit"].replace("`audit.html`", f"`{page_of(overview, part)}/audit.html`")
    limits = [f"- {_plain(text)}" for text in part.cautions if text not in common]
    bodies = [f"### {name}\n\n{own[name]}" for name in _OWN if name in own]
    remark = [f"**{_plain(part.remark)}.**"] if part.remark else []
    own_limits = ["### Limits\n\n" + "\n".join(limits)] if limits else []
    return "\n\n".join([f"## Finding: {_plain(part.finding)}", *remark, *bodies, *own_limits])


def _out_of_scope(overview: Overview) -> str:
    lines = ["Diagnosis, triage or any decision about a patient."]
    if overview.audit is not None and overview.audit.verdict == "invalid":
        lines.append("Any claim about performance: the audit's verdict is “invalid”.")
    lines.append(f"Findings other than {words(part.finding for part in overview.parts)}.")
    lines.append("“No finding” as a statement about a scan: it means none of these.")
    lines.append("Other places, devices or populations, until tested there.")
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _findings(overview: Overview) -> str:
    head = [
        "finding",
        "experts: present",
        "absent",
        "unknown",
        "holdout: with",
        "without",
        "AUROC",
        "95% interval",
        "sensitivity",
        "specificity",
        "pseudo-labels",
        "certified",
        "audit",
        "classifier",
    ]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *map(_row, overview.ranked)]
    note = (
        "Each finding is a question of its own, with a classifier and a cut-off of its own. The intervals hold for "
        "each finding by itself, not for all at once, and no comparison between findings is corrected for their number."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}"


def _row(part: Part) -> list[str]:
    scores = part.scores
    return [
        _plain(part.finding),
        *map(count, (len(part.present), len(part.absent), part.num_open, part.num_with, part.num_without)),
        decimal(part.auroc),
        interval(scores.get("auroc_ci95")),
        *(percent(scores.get(key)) for key in ("sensitivity", "specificity")),
        count(part.row.get("num_pseudo")),
        floor_percent(part.row.get("pseudo_precision_certified")),
        part.verdict or MISSING,
        _classifier(part) if part.has_classifier else "none yet",
    ]


def _classifier(part: Part) -> str:
    if not part.network:
        return "head"
    return "mean of head and adapted network" if answers_with_head(part.row) else "network adapted to this pool"


def _made(overview: Overview) -> str:
    backbone = (overview.config.get("backbone") or {}).get("name", MISSING)
    strategy = (overview.config.get("strategy") or {}).get("name", MISSING)
    lines = [
        f"Backbone: {backbone}",
        f"Queue strategy: {strategy}; one queue asks for all findings at once",
        *_network(overview),
        software(overview.as_run) or f"Seed: {overview.config.get('seed', MISSING)}",
    ]
    files = "- Full configuration: `resolved.yaml`; every number of every round: `metrics.jsonl`."
    return "\n".join([*(f"- {_plain(line)}" for line in lines), files])


def _network(overview: Overview) -> list[str]:
    """That one network learned the findings, where it did."""
    shared: dict[str, None] = {}
    for part in overview.parts:
        shared |= dict.fromkeys(part.row.get("network_findings") or [])
    if len(shared) < 2:
        return []
    use = "each finding uses it where its out-of-fold AUROC was not below that of the finding's own head"
    if any(answers_with_head(part.row) for part in overview.parts):
        use = "each finding takes the mean of it and of its own head, unless that was worse out of fold beyond chance"
    return [f"One network learned {words(shared)} at once, with a sigmoid for each; {use}"]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))
