"""What speaks for and against the accepted pseudo-labels without an expert: flips, a second opinion, caps that bind."""

from pipeline.pages.wording import MISSING, count, known, percent, words
from pipeline.report.gather import Row, RunData

LEFT_OUT = {
    "second_opinion": "by the second opinion",
    "max_share": "by the largest share of a class (pseudo.max_share)",
    "cap_per_class": "by the cap per class",
    "cap_per_cluster": "by the cap per cluster",
}


def rows(run: RunData) -> list[Row]:
    """One row a finished round that gave pseudo-labels: its cells as text; empty where no round measured any.

    Returns:
        {"round","flipped","withdrawn","agrees","agrees_by_class","right_agreeing","right_disagreeing","left_out"}, the
        flips and agreement by class as lists of texts along `run.findings`.
    """
    shown = []
    for row in run.rounds:
        opinion, flips = row.get("second_opinion"), row.get("pseudo_flips") or {}
        if not opinion or not opinion["num_compared"]:
            continue
        left_out = row.get("pseudo_left_out") or {}
        shown.append(
            {
                "round": row["round"],
                "flipped": _of(flips, "num_flipped"),
                "withdrawn": count(flips.get("num_withdrawn")),
                "agrees": _of(opinion, "num_agreeing"),
                "by_class": [
                    {
                        "flipped": _of((flips.get("by_class") or {}).get(finding) or {}, "num_flipped"),
                        "agrees": _of((opinion.get("by_class") or {}).get(finding) or {}, "num_agreeing"),
                    }
                    for finding in run.findings
                ],
                "right_agreeing": percent(opinion.get("precision_agreeing")),
                "right_disagreeing": percent(opinion.get("precision_disagreeing")),
                "left_out": words(f"{count(num)} {LEFT_OUT[name]}" for name, num in left_out.items() if num) or MISSING,
            }
        )
    return shown


def knows_truth(run: RunData) -> bool:
    """Whether a benchmark's truth says how precise the pseudo-labels are where the second opinion agrees."""
    return any(known((row.get("second_opinion") or {}).get("precision_agreeing")) for row in run.rounds)


def _of(counted: Row, name: str) -> str:
    """`3 of 240 (1.2%)`."""
    if not counted.get("num_compared"):
        return MISSING
    return f"{count(counted[name])} of {count(counted['num_compared'])} ({percent(counted['share'])})"
