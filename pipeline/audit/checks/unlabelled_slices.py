"""Which parts of the pool have scans but no labels: sampling bias made visible."""

from typing import Any

import numpy as np

from pipeline.audit.audited_pool import Names, Subject, known, named
from pipeline.pages.wording import in_order

MAX_SLICES = 60  # of one column


def columns(subject: Subject) -> dict[str, Names]:
    """The columns that cut the pool into slices, without those that are unknown throughout."""
    columns_of = {
        "source": subject.source_N,
        "population": subject.population_N,
        "age band": subject.age_band_N,
        "sex": subject.sex_N,
        "view": subject.view_N,
        "cluster": subject.cluster_N,
    }
    return {name: values_N for name, values_N in columns_of.items() if known(values_N).any()}


def coverage(subject: Subject) -> list[dict[str, Any]]:
    """Rows of `slices` in `audit.json`: scans, patients and labels of every slice of the training pool."""
    rows = []
    pool_N = np.array([split in (None, "train") for split in subject.split_N], dtype=np.bool_)
    num_pool, num_labelled = int(pool_N.sum()), int((subject.answered_N & pool_N).sum())
    for by, values_N in columns(subject).items():
        words = named(values_N)
        names = sorted(set(words[pool_N]), key=in_order)[:MAX_SLICES]
        for name in names:
            of = (words == name) & pool_N
            num, labelled = int(of.sum()), int((of & subject.answered_N).sum())
            share_labelled = labelled / num_labelled if num_labelled else None
            rows.append(
                {
                    "by": by,
                    "slice": str(name),
                    "num_scans": num,
                    "num_patients": len(set(subject.person_N[of])),
                    "num_labelled": labelled,
                    "share": num / num_pool,
                    "share_labelled": share_labelled,
                    "note": _note(num, labelled, num_pool, num_labelled),
                }
            )
    return rows


def _note(num: int, labelled: int, num_pool: int, num_labelled: int) -> str | None:
    if num_labelled == 0:
        return None
    expected = num_labelled * num / num_pool
    if labelled == 0:
        return "no label" if expected >= 1 else None
    # Poisson-like: two standard deviations below what a uniform choice would have given.
    return "few labels" if labelled < expected - 2 * np.sqrt(expected) else None
