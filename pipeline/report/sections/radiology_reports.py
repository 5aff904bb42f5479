"""What radiology reports say of the scans, how often blind checks found it right, and what is used of it."""

from pipeline.pages.wording import MISSING, count, percent
from pipeline.report.gather import Row, RunData


def rows(run: RunData) -> list[Row]:
    """One row for each source, class and thing said, of the last finished round; empty without reports.

    Returns:
        {"source","class_name","says","scans","checked","errors","precision","bound","is_used","why"}, text.
    """
    return [
        {
            "source": row["source"],
            "class_name": row["class_name"],
            "says": row["says"],
            "scans": count(row["num_scans"]),
            "checked": count(row["num_checked"]),
            "errors": count(row["num_errors"]) if row["num_checked"] else MISSING,
            "precision": percent(row["precision"]),
            "bound": percent(row["bound"]) if row["num_checked"] else MISSING,
            "is_used": row["used"],
            "why": row["why"],
        }
        for row in (run.last or {}).get("reports", [])
    ]
