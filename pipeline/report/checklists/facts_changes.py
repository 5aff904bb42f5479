"""What a run says of changes to its model: what may change, what stays, and when a change is refused."""

from pipeline.pages.wording import decimal, interval, plural
from pipeline.report.checklists.fact import Fact, file, see
from pipeline.report.gather import RunData
from pipeline.runtime import run_files


def may_change(run: RunData) -> Fact | None:
    """The classifier, its calibration and its operating point, by labels and scans that come in."""
    if not run.rounds:
        return None
    text = (
        f"The classifier of round {run.rounds[-1].get('round')} is replaced by that of a later round, learned from "
        "more labels or more scans by the same steps: its weights, its calibration, and the point at which it answers."
    )
    return Fact(text, (see("methods", "methods"), file(run, run_files.METRICS)))


def may_not_change(run: RunData) -> Fact | None:
    """Findings, backbone, input size, and who is in the holdout."""
    backbone, findings = run.backbone.get("name"), ", ".join(run.findings)
    size = run.backbone.get("size_px") or (run.config.get("preprocess") or {}).get("size_px")
    if not (backbone and findings and size):
        return None
    text = (
        f"The findings ({findings}), the pretrained network ({backbone}), how scans are read and their size "
        f"({size} px), and the patients of the sealed holdout. A model with other ones is of another run."
    )
    return Fact(text, (file(run, run_files.RESOLVED),))


def refused_when(run: RunData) -> Fact | None:
    """Rolled back where calibration labels say it is worse; stopped by the audit; measured on the sealed holdout."""
    if not run.rounds:
        return None
    rolled = sum(bool(row.get("rolled_back")) for row in run.rounds)
    so_far = plural(rolled, "round was", "rounds were")
    text = (
        "A round whose model is worse on its calibration labels is rolled back, and the model before it stays "
        f"({so_far} so far). A pool that the audit calls invalid stops the run before anything is learned."
    )
    if run.scores:
        text += (
            f" The model to beat has an AUROC of {decimal(run.scores.auroc)} ({interval(run.scores.auroc_ci95)}) on "
            "the sealed holdout."
        )
    return Fact(text, (file(run, run_files.METRICS), see("result", "result")))
