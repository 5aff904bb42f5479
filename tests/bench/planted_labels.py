"""How many planted wrong labels could be found at all: by a probe that was taught without a wrong label.

Legend: K scans, C classes.
"""

from pathlib import Path

import numpy as np

from pipeline.audit import probes
from pipeline.audit.audited_pool import open_subject
from pipeline.measures.folds import group_index
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

SHARES = (0.1, 0.2)


def oracle(folder: Path, rng: np.random.Generator) -> dict[str, float]:
    """Of so many wrong labels, the part among as many scans that a probe of the right labels doubts most.

    Args:
        folder: Of the audit of a clean pool.
        rng: Draws folds and wrong labels.

    Returns:
        Share of wrong labels as text, and the part of them that is found; by chance it would be that share.
    """
    subject = open_subject(StageContext(run_dir.config_of(folder), folder, SerialEngine()))
    rows = subject.labelled[subject.has_emb_N[subject.labelled]]
    names, true_K = np.unique(subject.label_N[rows].astype(str), return_inverse=True)
    group_K = group_index(list(subject.group_N[rows]))
    prob_KC = probes.out_of_fold(subject.components(rows), true_K, group_K, "linear", rng)
    log_KC = np.log(np.maximum(prob_KC, 1e-9))
    everyone = np.arange(len(rows))
    part_of = {}
    for share in SHARES:
        is_wrong_K = rng.random(len(rows)) < share
        other_K = (true_K + rng.integers(1, len(names), len(rows))) % len(names)
        given_K = np.where(is_wrong_K, other_K, true_K)
        others_KC = log_KC.copy()
        others_KC[everyone, given_K] = -np.inf
        doubt_K = others_KC.max(axis=1) - log_KC[everyone, given_K]
        most = np.argsort(-doubt_K, kind="stable")[: int(is_wrong_K.sum())]
        part_of[f"{share:.0%}"] = float(is_wrong_K[most].mean())
    return part_of
