"""How many scans and patients stand where: from the pool to the labels, and who they are on each side."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.answers import person_of

Row = dict[str, Any]
_NAMED = 6  # values of a column that are named; the rest is one line


def flow(tables: dict[str, pa.Table], queues: dict[int, pa.Table]) -> Row:
    """Counts of rows from the pool to the labels; a count is missing where its table is."""
    manifest, duplicates, splits = tables["manifest"], tables["duplicates"], tables["splits"]
    ok = manifest.filter(pc.equal(manifest["status"], "ok"))
    bad = manifest.filter(pc.equal(manifest["status"], "quarantined"))
    kinds, split = counted(duplicates["kind"]), counted(splits["split"])
    expert = tables["labels"].filter(pc.equal(tables["labels"]["origin"], "expert"))
    holdout_ids = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"]
    in_holdout = manifest.filter(pc.is_in(manifest["image_id"], holdout_ids.combine_chunks()))
    own = tables["pool_labels"]["pool_split"]
    return {
        "found": len(manifest) or None,
        "quarantined": len(bad),
        "reasons": sorted(
            counted(
                pc.if_else(pc.equal(pc.fill_null(bad["reason"], ""), ""), "no reason given", bad["reason"])
            ).items(),
            key=lambda p: (-p[1], p[0]),
        ),
        "readable": len(ok) or None,
        "patients": num_patients(ok),
        "has_own_split": own.null_count < len(own),
        "provenance": provenance(tables["pool_readings"]),
        "sources": sorted({s for s in pc.unique(ok["source"]).to_pylist() if s}),
        "no_patient": ok["patient_id"].null_count,
        "exact": kinds["exact"] if len(duplicates) else None,
        "near": kinds["near"] if len(duplicates) else None,
        "groups": pc.count_distinct(duplicates["group_id"]).as_py() if len(duplicates) else None,
        "train": split["train"] if len(splits) else None,
        "holdout": split["holdout"] if len(splits) else None,
        "excluded": split["excluded"] if len(splits) else None,
        "left_out": _left_out(manifest, splits),
        "holdout_patients": num_patients(in_holdout),
        "queued": sum(len(rows) for rows in queues.values()) if queues else None,
        "kinds": dict(sorted(Counter(k for rows in queues.values() for k in rows["kind"].to_pylist()).items())),
        "answered": pc.count_distinct(expert["image_id"]).as_py() if len(expert) else None,
        "annotators": sorted({person_of(name) for name in pc.unique(expert["annotator"]).to_pylist()}),
    }


def counted(values: pa.ChunkedArray) -> Counter[Any]:
    """How often each value is there."""
    return Counter({row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()})


def provenance(statements: pa.Table) -> list[Row]:
    """Who labelled the pool before this run, the commonest first; empty where the pool does not tell.

    Returns:
        [{"provenance", "num_labels", "num_scans", "num_readers"}], `num_readers` 0 where nobody has a name.
    """
    if not len(statements):
        return []
    counted = statements.group_by("provenance").aggregate(
        [("label", "count"), ("image_id", "count_distinct"), ("reader", "count_distinct")]
    )
    rows = [
        {
            "provenance": row["provenance"] or "not known",
            "num_labels": row["label_count"],
            "num_scans": row["image_id_count_distinct"],
            "num_readers": row["reader_count_distinct"],
        }
        for row in counted.to_pylist()
    ]
    return sorted(rows, key=lambda row: (-row["num_labels"], row["provenance"]))


def num_patients(rows: pa.Table) -> int | None:
    """Distinct patients, where every scan names one."""
    if not len(rows) or rows["patient_id"].null_count:
        return None
    return int(pc.count_distinct(rows["patient_id"]).as_py())


def _left_out(manifest: pa.Table, splits: pa.Table) -> list[tuple[str, int]]:
    """Readable scans on neither side, by reason; the unreadable ones are counted where they are set aside."""
    bad = manifest.filter(pc.equal(manifest["status"], "quarantined"))["image_id"].combine_chunks()
    rows = splits.filter(pc.and_(pc.equal(splits["split"], "excluded"), pc.invert(pc.is_in(splits["image_id"], bad))))
    reasons = Counter(reason or "on neither side" for reason in rows["reason"].to_pylist())
    return sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))


def sides(tables: dict[str, pa.Table]) -> dict[str, Row]:
    """Who is in the training pool and who in the holdout: scans, patients, age, sex, view, source."""
    manifest, splits = tables["manifest"], tables["splits"]
    out = {}
    for side in ("train", "holdout"):
        ids = splits.filter(pc.equal(splits["split"], side))["image_id"].combine_chunks()
        rows = manifest.filter(pc.is_in(manifest["image_id"], ids))
        if len(rows):
            out[side] = _characteristics(rows)
    return out


def _characteristics(rows: pa.Table) -> Row:
    age_years = np.asarray(rows["age_years"].drop_null().to_numpy(), dtype=np.float64)
    quartiles = np.percentile(age_years, [25, 50, 75]).tolist() if len(age_years) else None
    return {
        "num_scans": len(rows),
        "num_patients": num_patients(rows),
        "age_quartiles_years": quartiles,
        "num_age_unknown": len(rows) - len(age_years),
        **{name: _shares(rows, name) for name in ("sex", "view", "source", "population")},
    }


def _shares(rows: pa.Table, column: str) -> list[tuple[str, int]]:
    """Values and how many scans have them, the commonest first; rare ones are one row, unknown ones the last."""
    counted = pc.value_counts(rows[column]).to_pylist()
    count_of = {row["values"]: row["counts"] for row in counted if row["values"] not in (None, "unknown")}
    if not count_of:
        return []
    ranked = sorted(count_of.items(), key=lambda pair: (-pair[1], pair[0]))
    out, rest = ranked[:_NAMED], sum(number for _, number in ranked[_NAMED:])
    out += [(f"{len(ranked) - _NAMED} others", rest)] if rest else []
    unknown = len(rows) - sum(count_of.values())
    return [*out, ("not known", unknown)] if unknown else out
