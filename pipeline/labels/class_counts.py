"""How many expert labels each class has, and what a class of few labels cannot do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.labels import verdicts
from pipeline.labels.reading_matrix import is_train

# N scans with an expert class, E of them in the training pool

MIN_LABELS = 5  # of a class; with fewer, its numbers are a matter of one scan


def count_by_class(class_E: np.ndarray, findings: Sequence[str]) -> dict[str, int]:
    """Labels of each class, those without any included, by their class index (E,)."""
    count_C = np.bincount(class_E, minlength=len(findings))
    return {finding: int(num) for finding, num in zip(findings, count_C, strict=True)}


def count_in(folder: Path, table: pa.Table, findings: Sequence[str]) -> dict[str, int]:
    """Expert labels of each class that a label table of a run holds now, of scans of the training pool."""
    ids, class_N = verdicts.class_array(verdicts.expert_classes(table, findings), findings)
    return count_by_class(class_N[is_train(folder, ids)], findings)


def with_few_labels(count_of: Mapping[str, int]) -> dict[str, int]:
    """The classes with fewer labels than `MIN_LABELS`, each with its number."""
    return {finding: num for finding, num in count_of.items() if num < MIN_LABELS}


def warnings(count_of: Mapping[str, int]) -> list[str]:
    """One sentence for each class of few labels: how many it has, and what follows."""
    return [
        f"class {finding}: {num} expert {'label' if num == 1 else 'labels'}, fewer than {MIN_LABELS}; it has no say in "
        "roll-backs, its out-of-fold AUROC is not estimated, it wins no operating point"
        for finding, num in with_few_labels(count_of).items()
    ]
