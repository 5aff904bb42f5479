"""The releases of independent findings: each has a certificate of its own, and here is what holds of all at once.

A certificate of 95 % is wrong in at most 1 of 20 releases; that one or more of fourteen are wrong is far likelier.
Whoever relies on several at once needs more confidence in each: with m releases of two tiers at
1 - (1 - confidence) / (2 m) all bounds hold together with the confidence promised (Bonferroni). Releases that failed
count among the m.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.contracts import finding_line
from pipeline.labels import label_table, verdicts
from pipeline.learn.releases import frozen_release
from pipeline.learn.releases.frozen_release import Release
from pipeline.per_finding.parts import project_labels
from pipeline.runtime import finding_folders, run_files

Answers = dict[str, str | None]


def answers_of(folder: Path, finding: str) -> Answers:
    """What experts said of one finding, by the run's own label table: class by image_id, None where nobody can tell."""
    table = project_labels(label_table.read(folder), finding)
    return verdicts.expert_classes(table, finding_line.question(finding))


def frozen(folder: Path) -> dict[str, Release]:
    """The latest release of each finding of a run that has one."""
    loaded = {finding: frozen_release.load(part) for finding, part in finding_folders.parts_in(folder).items()}
    return {finding: release for finding, release in loaded.items() if release is not None}


def together(folder: Path) -> dict[str, Any] | None:
    """What may be said of the releases of all findings of a run at once; None before there is one."""
    parts, frozen_now = finding_folders.parts_in(folder), frozen(folder)
    if not frozen_now:
        return None
    num_releases = sum(len(run_files.releases(part)) for part in parts.values())
    answers = {finding: answers_of(folder, finding) for finding in frozen_now}
    return joint_statement(frozen_now, answers, num_releases)


def joint_statement(
    frozen_now: Mapping[str, Release], answers: Mapping[str, Answers], num_releases: int
) -> dict[str, Any]:
    """Bounds of several releases that hold together, by Bonferroni.

    Args:
        frozen_now: The latest release of each finding.
        answers: What experts said of each finding.
        num_releases: All releases that were frozen, the failed ones too.

    Returns:
        {"method","num_releases","confidence","confidence_each","findings": {finding: {"certified_tier","bound"}}}; the
        bound is that of the widest tier certified at `confidence_each`, before that of the first tier.
    """
    confidence = min(float(release.card["confidence"]) for release in frozen_now.values())
    each = 1.0 - (1.0 - confidence) / (2 * num_releases)  # two tiers each
    of_findings = {}
    for finding, release in frozen_now.items():
        tiers = release.standing(answers[finding], each)
        widest = max((tier for tier in tiers if tier.holds), key=lambda tier: tier.num_scans, default=None)
        of_findings[finding] = {
            "certified_tier": None if widest is None else widest.tier,
            "bound": (widest or tiers[0]).bound,
        }
    return {
        "method": "Bonferroni",
        "num_releases": num_releases,
        "confidence": confidence,
        "confidence_each": each,
        "findings": of_findings,
    }
