"""A test on a source that was left out of training, wherever two sources share classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import probes
from pipeline.audit.audited_pool import Subject, known
from pipeline.audit.check import Check
from pipeline.measures.folds import group_index
from pipeline.measures.holdout_metrics import evaluate

_MAX_SAID = 4  # sources named in a sentence


@dataclass(frozen=True)
class LeftOut:
    """What a classifier that never saw a source does on it; `within`: the same scans, patient-grouped folds."""

    source: str
    num_scans: int
    findings: tuple[str, ...]
    auroc: float | None = None
    auroc_ci95: list[float] | None = None
    within: float | None = None
    within_ci95: list[float] | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A row of `external` in `audit.json`."""
        return {
            "source": self.source,
            "num_scans": self.num_scans,
            "findings": list(self.findings),
            "auroc": self.auroc,
            "auroc_ci95": self.auroc_ci95,
            "auroc_within": self.within,
            "auroc_within_ci95": self.within_ci95,
            "reason": self.reason,
        }


def leave_one_source_out(subject: Subject) -> list[LeftOut]:
    """Every source in turn; one that shares fewer than two classes with the rest is refused, with the reason."""
    rows = np.array(
        [row for row in subject.labelled if subject.has_emb_N[row] and subject.source_N[row] is not None], np.int64
    )
    sources = sorted(set(subject.source_N[rows]))
    if len(sources) < 2:
        return []
    rows = subject.sample(rows, "external")
    return [_left_out(subject, rows, source) for source in sources]


def check(subject: Subject, left_out: list[LeftOut]) -> Check:
    """Whether a test on another source was possible, and what it said."""
    why = "A model that was tested only where it was trained has failed elsewhere again and again."
    limit = subject.config.audit.warn_external_drop
    tested = [source for source in left_out if source.auroc is not None]
    if not tested:
        return Check(
            "no-external-test",
            "warn",
            f"No test on another source is possible: {_why_not(subject, left_out)}.",
            why,
            "Bring scans of the same classes from a second source, or test with `cxr-ssl evaluate RUN --pool OTHER`.",
            count=len(left_out),
            threshold=limit,
        )
    drops = [(source.within or 0.0) - (source.auroc or 0.0) for source in tested]
    worst = tested[int(np.argmax(drops))]
    text = f"Trained without {worst.source} and tested on it: AUROC "
    text += probes.with_interval(worst.auroc or 0.0, worst.auroc_ci95)
    if worst.within is not None:
        text += f", against {worst.within:.3f} when it may learn from {worst.source} too"
    refused = [f"{source.source} ({source.reason})" for source in left_out if source.auroc is None][:_MAX_SAID]
    if refused:
        text += f". Not possible for {', '.join(refused)}"
    return Check(
        "no-external-test",
        "warn" if any(_falls(source, limit) for source in tested) else "ok",
        f"{text}.",
        why,
        "Where the drop is large, the numbers on the pool's own holdout do not hold elsewhere; add sources.",
        count=len(tested),
        value=max(drops),
        threshold=limit,
    )


def _falls(left_out: LeftOut, limit: float) -> bool:
    """Whether it loses more than the limit there, and more than chance."""
    if left_out.auroc is None or left_out.within is None or left_out.auroc_ci95 is None:
        return False
    return left_out.within - left_out.auroc > limit and left_out.auroc_ci95[1] < left_out.within


def _left_out(subject: Subject, rows: NDArray[np.int64], source: str) -> LeftOut:
    inside = subject.source_N[rows] == source
    test, train = rows[inside], rows[~inside]
    # A patient seen at both places would be known from training.
    train = train[~np.isin(subject.group_N[train].astype(str), subject.group_N[test].astype(str))]
    shared = [f for f in subject.findings if _groups(subject, test, f) >= 2 and _groups(subject, train, f) >= 2]
    if len(shared) < 2:
        what = f"shares only {shared[0]}" if shared else "shares no class"
        return LeftOut(source, len(test), tuple(shared), reason=f"{what} with the other sources")
    test = test[np.isin(subject.label_N[test], shared)]
    train = train[np.isin(subject.label_N[train], shared)]
    code = {finding: i for i, finding in enumerate(shared)}
    test_code, train_code = (np.array([code[f] for f in subject.label_N[part]]) for part in (test, train))
    both, both_code = np.concatenate([test, train]), np.concatenate([test_code, train_code])
    x_BM = subject.components(both)
    prob_SC = probes.fit_predict(x_BM[len(test) :], train_code, x_BM[: len(test)], "linear")
    there = _auroc(subject, prob_SC, test_code, test, shared)
    group = group_index(list(subject.group_N[both]))
    rng = subject.rng("external")
    fold_prob = probes.out_of_fold(x_BM, both_code, group, "linear", rng)[: len(test)]
    here = _auroc(subject, fold_prob, test_code, test, shared)
    return LeftOut(source, len(test), tuple(shared), *there, *here)


def _groups(subject: Subject, rows: NDArray[np.int64], finding: str) -> int:
    return len(set(subject.group_N[rows[subject.label_N[rows] == finding]]))


def _auroc(
    subject: Subject,
    prob_SC: NDArray[np.float64],
    code_S: NDArray[np.int64],
    rows: NDArray[np.int64],
    findings: list[str],
) -> tuple[float | None, list[float] | None]:
    prob_SC = prob_SC / prob_SC.sum(axis=1, keepdims=True)
    scores = evaluate(
        prob_SC,
        prob_SC.argmax(axis=1),
        code_S,
        findings,
        list(subject.group_N[rows]),
        positive=1 if len(findings) == 2 else None,  # of two classes either has the same AUROC
        num_bootstrap=subject.config.audit.num_bootstrap,
        rng=subject.rng("external/interval"),
    )
    return scores.auroc, scores.auroc_ci95


def _why_not(subject: Subject, left_out: list[LeftOut]) -> str:
    if len(subject.labelled) == 0:
        return "no label is known"
    if not known(subject.source_N).any():
        return "no source is known"
    if left_out:
        rest = f"; and {len(left_out) - _MAX_SAID} more" if len(left_out) > _MAX_SAID else ""
        return "; ".join(f"{source.source} {source.reason}" for source in left_out[:_MAX_SAID]) + rest
    sources = sorted(set(subject.source_N[subject.labelled][known(subject.source_N[subject.labelled])]))
    return f"all labelled scans come from one source ({', '.join(sources) or 'unknown'})"
