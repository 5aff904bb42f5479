"""The k-nearest-neighbour classifier against a plain loop, and never the own patient."""

import numpy as np
import pytest

from pipeline.vectors import nearest_labels
from pipeline.vectors.matrix import unit_rows
from pipeline.vectors.nearest_labels import NOBODY, nearest_label_classes


def cloud(num=60, num_labels=25, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    unit_NP = unit_rows(rng.normal(size=(num, 5)))
    labelled = rng.choice(num, num_labels, replace=False)
    return unit_NP, labelled, rng.integers(num_classes, size=num_labels), rng.integers(12, size=num)


def by_hand(unit_NP, labelled, class_E, patient_N, k):
    """Scan by scan: sort the others' labels by cosine, count the first k, break ties by the sum of cosines."""
    said = []
    for i, unit in enumerate(unit_NP):
        others = [row for row, j in enumerate(labelled) if patient_N[j] != patient_N[i]]
        near = sorted(((float(unit @ unit_NP[labelled[row]]), class_E[row]) for row in others), reverse=True)[:k]
        votes = {c: [1.0 + cosine for cosine, own in near if own == c] for _, c in near}
        said.append(max(votes, key=lambda c: (len(votes[c]), sum(votes[c]))) if near else NOBODY)
    return said


@pytest.mark.parametrize("k", [1, 4, 5, 50])
@pytest.mark.parametrize("cells", [16_000_000, 60])
def test_as_scan_by_scan(k, cells, monkeypatch):
    monkeypatch.setattr(nearest_labels, "CELLS_AT_ONCE", cells)
    unit_NP, labelled, class_E, patient_N = cloud()
    found = nearest_label_classes(unit_NP, unit_NP[labelled], class_E, patient_N, patient_N[labelled], k, 3)
    assert found.tolist() == by_hand(unit_NP, labelled, class_E, patient_N, k)


@pytest.mark.parametrize(("labelled", "class_E", "said"), [([1, 2], [0, 1], 1), ([1], [0], NOBODY)])
def test_the_own_patient_is_never_asked(labelled, class_E, said):
    """The label nearest to the first scan is its own patient's: the far one decides; without it there is nobody."""
    unit_NP = unit_rows(np.array([[1.0, 0.0], [0.99, 0.01], [-1.0, 0.0]]))
    patient_N = np.array([7, 7, 8])
    labels = (unit_NP[labelled], np.array(class_E), patient_N[:1], patient_N[labelled])
    assert nearest_label_classes(unit_NP[:1], *labels, 1, 2).tolist() == [said]


def test_without_labels_there_is_nobody_to_ask():
    unit_NP, _, _, patient_N = cloud(4, 2)
    nothing = np.array([], np.int64)
    assert (nearest_label_classes(unit_NP, unit_NP[:0], nothing, patient_N, nothing, 5, 3) == NOBODY).all()


def test_a_scan_without_finite_features_has_no_opinion():
    unit_NP, labelled, class_E, patient_N = cloud()
    bad_NP = unit_NP.copy()
    bad_NP[3] = np.nan
    said = nearest_label_classes(bad_NP, unit_NP[labelled], class_E, patient_N, patient_N[labelled], 5, 3)
    assert said[3] == NOBODY and (np.delete(said, 3) != NOBODY).all()
