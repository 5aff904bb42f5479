"""The columns of a prediction, one row a scan, in every form of file alike."""

from collections.abc import Sequence

import pyarrow as pa

# Before the findings, and after them.
OF_THE_SCAN = (
    pa.field("path", pa.string(), nullable=False),  # inside the pool
    pa.field("image_id", pa.string(), nullable=False),  # as in the manifest of a run of that pool
    pa.field("sha256", pa.string()),  # of the file's bytes; null where it could not be read
    pa.field("status", pa.string(), nullable=False),  # ok, or unusable
    pa.field("reason", pa.string()),  # why it is unusable
    pa.field("answer", pa.string()),  # class at the run's operating point; of independent findings their line
)
OF_THE_KNOWN = (
    pa.field("outside_score", pa.float64()),  # distance from the training pool over the threshold
    pa.field("outside", pa.bool_()),  # whether it is above 1; null where there is no threshold
    pa.field("in_run", pa.string()),  # train, holdout or excluded: the run has this very file; else null
    pa.field("note", pa.string()),  # what a reader should know of how the file was read
)
OK, UNUSABLE = "ok", "unusable"


def names_of(finding: str) -> tuple[str, str, str]:
    """The columns of a finding: calibrated probability, and the ends of the calibration's 95 % interval."""
    return f"prob_{finding}", f"prob_{finding}_low", f"prob_{finding}_high"


def decision_of(finding: str) -> str:
    """The column of what is decided of a finding: yes, no, or ask a person."""
    return f"decision_{finding}"


def schema(findings: Sequence[str], decided: Sequence[str] = ()) -> pa.Schema:
    """All columns for these findings; those of `decided` have a decision."""
    probabilities = [pa.field(name, pa.float64()) for finding in findings for name in names_of(finding)]
    decisions = [pa.field(decision_of(finding), pa.string()) for finding in decided]
    return pa.schema([*OF_THE_SCAN, *decisions, *probabilities, *OF_THE_KNOWN])
