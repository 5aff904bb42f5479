"""Can the label be told without looking at the lungs? The model beside probes that must not know.

Every probe is a classifier of the same kind on the same scans, patient-grouped: on the whole scan (what there is to
know), on the scan with the lungs erased (Maguolo & Nanni 2021), on the file's metadata alone, on age, sex and view.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import off_lung_features, off_lung_regions, probes
from pipeline.audit.audited_pool import Subject, known, named
from pipeline.audit.check import MAX_EVIDENCE, Check, Severity, Table
from pipeline.audit.checks.confounding import predictors
from pipeline.audit.off_lung_features import PixelFacts
from pipeline.audit.probes import Kind, Score
from pipeline.contracts.options.evidence import AuditConfig

MODEL, METADATA, LUNGS_MASKED, POPULATION = "model", "metadata", "lungs-masked", "population"
MARKED_SHARE = 0.35  # of a class that stands out at one place, where the probe without lungs sees nothing
AS_GOOD = 0.002  # of AUROC: a probe that is not below the whole scan by more reaches it


@dataclass(frozen=True)
class Shortcuts:
    """Scores of each probe for each class.

    Attributes:
        scores: Probe to class to score; a probe that could not be asked is not there.
        quality: How well the schematic chest of the lung masks fits, mean, 0..1; None where none was made.
        num_scans: Scans that were looked at.
        rows: Rows of the subject that were looked at, ascending.
        grey_RG: Grey levels of each of them (`off_lung_features.GREY_FACTS`).
        why_not: Why there are no scores.
    """

    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    quality: float | None = None
    num_scans: int = 0
    rows: tuple[int, ...] = ()
    grey_RG: NDArray[np.float32] | None = None
    why_not: str | None = None

    def of(self, name: str) -> dict[str, Score]:
        """Scores of one probe."""
        return self.scores.get(name, {})

    def to_json(self) -> list[dict[str, Any]]:
        """Rows of `shortcuts` in `audit.json`."""
        return [s.to_json(finding, name) for name, score_of in self.scores.items() for finding, s in score_of.items()]


def measure(subject: Subject) -> Shortcuts:
    """Ask all probes of the pool's labelled scans."""
    rows = np.array([row for row in subject.labelled if subject.has_emb_N[row]], dtype=np.int64)
    if len(rows) == 0:
        return Shortcuts(why_not="no label is known" if len(subject.labelled) == 0 else "there are no embeddings")
    rows = subject.sample(rows, "shortcuts")
    facts = off_lung_features.measure(subject.ctx, subject.scans.take(rows))
    rows = rows[facts.ok_N]
    scores = {MODEL: _ask(subject, rows, subject.components(rows), "linear")}
    if not scores[MODEL]:
        return Shortcuts(why_not=f"fewer than two classes have {probes.MIN_GROUPS} patients or more")
    scores[LUNGS_MASKED] = _ask(subject, rows, probes.components(facts.masked_emb_ND[facts.ok_N]), "linear")
    scores[METADATA] = _ask(subject, rows, facts.meta_NM[facts.ok_N], "trees")
    is_known_R, x_RM = predictors(subject, rows)
    if x_RM.shape[1]:
        scores[POPULATION] = _ask(subject, is_known_R, x_RM, "trees")
    grey_RG = facts.meta_NM[facts.ok_N][:, [name in off_lung_features.GREY_FACTS for name in facts.names]]
    return Shortcuts(scores, _quality(facts), len(rows), tuple(rows.tolist()), grey_RG)


def check(subject: Subject, shortcuts: Shortcuts) -> list[Check]:
    """All checks of this family."""
    return [_metadata(subject, shortcuts), _lungs_masked(subject, shortcuts)]


def _ask(subject: Subject, rows: NDArray[np.int64], x_RM: NDArray[Any], kind: Kind) -> dict[str, Score]:
    return probes.probe(
        x_RM,
        subject.label_N[rows],
        subject.group_N[rows],
        named(subject.source_N[rows]),
        kind=kind,
        num_bootstrap=subject.config.audit.num_bootstrap,
        rng=subject.rng("shortcuts"),  # the same folds and replicates for every probe
    )


def _metadata(subject: Subject, shortcuts: Shortcuts) -> Check:
    audit = subject.config.audit
    return _judged(
        subject,
        shortcuts,
        METADATA,
        "metadata-predicts-label",
        "From size, format, border and grey levels alone, without the picture,",
        why="What the file betrays, a network sees too: it may have learnt the scanner and not the illness.",
        fix="Bring the classes to one size, format and exposure at their origin; resizing alone leaves traces.",
        block_from=audit.block_shortcut_auroc,
    )


def _lungs_masked(subject: Subject, shortcuts: Shortcuts) -> Check:
    check = _judged(
        subject,
        shortcuts,
        LUNGS_MASKED,
        "lungs-masked-predicts-label",
        "With the lungs erased",
        why="Where the answer survives without the lungs, markers, lines, posture or the frame can give it away.",
        fix="Look at the scans for markers and devices; crop or mask what is not the chest; test on another source. "
        "(The mask covers 99.9% of the lungs of phantoms and leaves a sliver of lung in about 1 of 20 real scans.)",
        block_from=None,
    )
    scores = shortcuts.of(LUNGS_MASKED)
    if not scores or not shortcuts.rows:
        return check
    # A letter is lost on a small square, and the probe with it; the place it stands at is not.
    asked = [_worst(subject, scores)] if check.severity != "ok" else list(scores)
    rows = np.array(shortcuts.rows, np.int64)
    regions = {finding: off_lung_regions.standing_out(subject, finding, rows) for finding in asked}
    finding, region = max(regions.items(), key=lambda item: 0.0 if item[1] is None else item[1].share)
    if region is None or (check.severity == "ok" and region.share < MARKED_SHARE):
        return check
    seen = f"{region.share:.0%} of the {finding} scans are {region.words} of the picture, and hardly any of the others."
    evidence = subject.evidence(region.rows, f"{finding}: {region.words}")
    with_place = replace(check, message=f"{check.message} {seen}", evidence=evidence[:MAX_EVIDENCE])
    if check.severity != "ok":
        return with_place
    return replace(with_place, severity="warn", count=1, value=region.share, threshold=MARKED_SHARE)


def _worst(subject: Subject, scores: dict[str, Score]) -> str:
    """The class that is told best; of two classes that mirror each other the one that is not normal."""
    place = subject.findings.index
    return max(scores, key=lambda finding: (round(scores[finding].lower, 3), place(finding)))


def _judged(
    subject: Subject,
    shortcuts: Shortcuts,
    name: str,
    check_id: str,
    how: str,
    *,
    why: str,
    fix: str,
    block_from: float | None,
) -> Check:
    scores, model = shortcuts.of(name), shortcuts.of(MODEL)
    if not scores:
        return Check(check_id, "ok", f"Not checked: {shortcuts.why_not}.", why, fix, checked=False)
    warn_from = subject.config.audit.warn_shortcut_auroc
    over = [finding for finding, s in scores.items() if s.lower > warn_from]
    blocks = [finding for finding, s in scores.items() if block_from is not None and s.lower >= block_from]
    unexplained = [] if known(subject.source_N).any() else _reaching(scores, model, name, subject.config.audit)
    blocks = blocks or unexplained
    severity: Severity = "block" if blocks else "warn" if over else "ok"
    finding = _worst(subject, scores)
    worst = scores[finding]
    message = f"{how} {finding} is told with AUROC {probes.with_interval(worst.auroc, worst.auroc_ci95)}"
    if finding in model:
        whole = model[finding]
        message += f"; with the whole scan {probes.with_interval(whole.auroc, whole.auroc_ci95)}"
    message += f" ({shortcuts.num_scans} scans, patient-grouped; the lower end counts)."
    if unexplained:
        message += " That is as much as the whole scan tells, and no source is known that could explain it."
        fix = f"Say where each scan comes from (`source`), and bring the classes from the same places. {fix}"
    if worst.within is not None and abs(worst.within - worst.auroc) > 0.02:
        message += f" Compared within each source it is {worst.within:.3f}."
    rows = np.flatnonzero(np.isin(subject.label_N, over))[:12]
    return Check(
        check_id,
        severity,
        message,
        why,
        fix,
        count=len(over),
        value=worst.lower,  # what is held against the limit: chance alone must not accuse
        threshold=subject.config.audit.block_shortcut_auroc if blocks else warn_from,
        evidence=subject.evidence(rows, [str(subject.label_N[row]) for row in rows]),
        table=_table(shortcuts, name),
    )


def _reaching(scores: dict[str, Score], model: dict[str, Score], name: str, audit: AuditConfig) -> list[str]:
    """Classes that a probe tells as well as the whole scan does, at `audit.block_shortcut_auroc` and more.

    The file's own data reach it within the interval of the whole scan's AUROC: they hold nothing of the chest. What is
    left of a scan without the lungs holds some, so that only an equal AUROC counts.
    """
    reaching = []
    for finding, score in scores.items():
        whole = model.get(finding)
        is_high = score.auroc >= audit.block_shortcut_auroc < 1.0 and score.lower > audit.warn_shortcut_auroc
        if whole is None or not is_high:
            continue
        level = min(whole.lower, whole.auroc - AS_GOOD) if name == METADATA else whole.auroc - AS_GOOD
        if score.auroc >= level:
            reaching.append(finding)
    return reaching


def _table(shortcuts: Shortcuts, name: str) -> Table:
    rows = []
    for finding, s in shortcuts.of(name).items():
        whole = shortcuts.of(MODEL).get(finding)
        interval = s.auroc_ci95 or (None, None)
        rows.append((finding, s.num_positive, s.auroc, *interval, s.within, whole.auroc if whole else None))
    return Table(
        ("class", "scans", "AUROC", "95% from", "to", "within sources", "AUROC of the whole scan"), tuple(rows)
    )


def _quality(facts: PixelFacts) -> float | None:
    quality = facts.quality_N[facts.ok_N]
    return float(np.mean(quality)) if len(quality) else None
