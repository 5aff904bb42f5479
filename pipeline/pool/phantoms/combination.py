"""Independent findings of a phantom: what occurs together, what a follow-up shows, what nobody noted.

A patient's findings are one text, `pneumonia+nodule` or `normal`, and are dealt out by quota like a class: so no two
findings go together by chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np

from pipeline.contracts import finding_line
from pipeline.pool.phantoms.spec import FINDINGS, PhantomSpec

NORMAL = FINDINGS[0]
_AND = "+"


def shares(spec: PhantomSpec) -> dict[str, float]:
    """Return each combination's part of the patients; the parts add up to 1."""
    share_of = {}
    for has in itertools.product((False, True), repeat=len(spec.independent)):
        names = [finding for finding, there in zip(spec.independent, has, strict=True) if there]
        parts = [spec.prevalences[finding] for finding in spec.independent]
        key = _AND.join(names) or NORMAL
        share_of[key] = math.prod(part if there else 1 - part for part, there in zip(parts, has, strict=True))
    return share_of


def evolve(
    spec: PhantomSpec, findings: str, visit: int, recovery_prob: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return what a visit shows, and how strongly relative to the first; each finding comes and goes by itself.

    Args:
        spec: gives the prevalences.
        findings: the combination that the patient came with.
        visit: 0 for the first.
        recovery_prob: chance that a finding of the first visit is gone.
        rng: the visit's own.
    """
    first = findings.split(_AND)
    if visit == 0:
        return {finding: 1.0 for finding in spec.independent if finding in first}
    shown = {}
    for finding in spec.independent:
        chance, severity = rng.random(), float(rng.uniform(0.8, 1.2))
        part = spec.prevalences[finding]
        # Falling ill balances recovering, so prevalences stay put over the visits.
        onset_prob = min(0.5, recovery_prob * part / (1 - part))
        there = chance >= recovery_prob if finding in first else chance < onset_prob
        if there:
            shown[finding] = severity
    return shown


def line(spec: PhantomSpec, shown: Iterable[str]) -> str:
    """Return the line of `finding_line` about a picture that shows these findings and no others."""
    there = set(shown)
    return finding_line.write({finding: float(finding in there) for finding in spec.independent}, spec.independent)


def noted(spec: PhantomSpec, truth: str, split: str | None, rng: np.random.Generator) -> str:
    """Return the line that the manifest has; outside the test split a few values are unknown."""
    lost = rng.random(len(spec.independent)) < spec.unknown_share
    if split == "test":
        return truth
    known = {
        finding: value
        for (finding, value), gone in zip(finding_line.read(truth).items(), lost, strict=True)
        if not gone
    }
    return finding_line.write(known, spec.independent)
