"""What another model read in the reports: columns of the pool's table with 1, 0, -1 or words."""

from collections import Counter
from collections.abc import Mapping

from pipeline.contracts.errors import InputError
from pipeline.pool.sources import Pool
from pipeline.radiology_reports.labeler import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN, Says, Statement, joined
from pipeline.radiology_reports.texts import column_of

WHERE = "pool.report_labels"
NOT_UNDERSTOOD = "a value that is not understood"
_WORDS: dict[Says, str] = {
    PRESENT: "1 1.0 present positive yes true pos",
    ABSENT: "0 0.0 absent negative no false neg",
    UNCERTAIN: "-1 -1.0 uncertain possible unclear u ?",
    NOT_MENTIONED: "not mentioned,blank,not_mentioned",
}
_MEANING: dict[str, Says] = {
    word: says for says, words in _WORDS.items() for word in (words.split(",") if "," in words else words.split())
}


def read(pool: Pool, columns: Mapping[str, str], reasons: Counter[str]) -> dict[str, dict[str, Statement]]:
    """Path of a scan to what its columns say of each finding.

    Args:
        pool: As it was listed.
        columns: Finding to column, `pool.report_labels`.
        reasons: Takes the values that are not understood, counted.

    Raises:
        InputError: the table has no such column.
    """
    statements: dict[str, dict[str, Statement]] = {}
    paths = [] if pool.reports is None else pool.reports["image_path"].to_pylist()
    for finding, name in columns.items():
        column = column_of(pool, name)
        if column is None or pool.reports is None:
            raise InputError(
                f"the pool's table has no column for {finding!r}",
                value=name,
                where=WHERE,
                fix="name the column as the table writes it; a pool without a table has none",
            )
        for path, cell in zip(paths, pool.reports[column].to_pylist(), strict=True):
            says = NOT_MENTIONED if cell is None else _MEANING.get(cell.strip().lower())
            if says is None:
                reasons[NOT_UNDERSTOOD] += 1
                continue
            before = statements.setdefault(path, {}).get(finding)
            statements[path][finding] = joined([before, Statement(says)] if before else [Statement(says)])
    return statements
