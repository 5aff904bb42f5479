"""What embeddings are worth where labels exist: 15 nearest neighbours and a linear probe, out of fold by patient."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# M scans that are looked at, D dimensions of the embedding

NAMES = ("knn15_auroc", "linear_auroc")
NUM_NEIGHBORS = 15
NUM_FOLDS = 3
MIN_SCANS = 10  # of a class
C = 0.1


@dataclass(frozen=True)
class Probe:
    """Labels of the scans that are looked at; called with their embeddings.

    Attributes:
        class_M: Class number of each scan.
        group_M: Patient of each scan.
    """

    class_M: np.ndarray
    group_M: np.ndarray

    def __call__(self, emb_MD: np.ndarray) -> dict[str, float]:
        """Area under the ROC curve of both probes, mean over the classes."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_predict
        from sklearn.neighbors import KNeighborsClassifier

        centred_MD = emb_MD - emb_MD.mean(axis=0)
        scale = 10.0 / max(float(np.sqrt((centred_MD**2).sum(axis=1).mean())), 1e-12)
        scores = {}
        for name, model, x_MD in (
            (NAMES[0], KNeighborsClassifier(NUM_NEIGHBORS, metric="cosine"), emb_MD),
            (NAMES[1], LogisticRegression(C=C, max_iter=500), centred_MD * scale),
        ):
            prob_MC = cross_val_predict(model, x_MD, self.class_M, cv=self.folds(), method="predict_proba")
            scores[name] = round(_auroc(self.class_M, prob_MC), 4)
        return scores

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Scans to learn from and to test on, by patient."""
        from sklearn.model_selection import StratifiedGroupKFold

        splitter = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=0)
        return list(splitter.split(self.class_M, self.class_M, self.group_M))

    def is_possible(self) -> bool:
        """Whether every fold has neighbours enough and scans of every class to learn from."""
        if min(len(set(self.group_M[self.class_M == c])) for c in set(self.class_M)) < NUM_FOLDS:
            return False
        num_classes = len(set(self.class_M))
        return all(len(fit) >= NUM_NEIGHBORS and len(set(self.class_M[fit])) == num_classes for fit, _ in self.folds())


def plan(
    label_N: Sequence[str | None], group_N: Sequence[str], max_scans: int, rng: np.random.Generator
) -> tuple[list[int], Probe | None]:
    """Positions of scans to look at, and a probe where enough of the scans are labelled.

    Args:
        label_N: Class of each scan, None where it is unknown.
        group_N: Patient of each scan.
        max_scans: Positions returned at most.
        rng: Draws them.
    """
    sizes = Counter(label for label in label_N if label is not None)
    classes = sorted(label for label, size in sizes.items() if size >= MIN_SCANS)
    known = [i for i, label in enumerate(label_N) if label in classes]
    if len(classes) < 2:
        return _drawn(list(range(len(label_N))), max_scans, rng), None
    look_at = _drawn(known, max_scans, rng)
    number = {label: c for c, label in enumerate(classes)}
    class_M = np.array([number[str(label_N[i])] for i in look_at])
    group_M = np.array([group_N[i] for i in look_at])
    probe = Probe(class_M, group_M)
    return look_at, probe if probe.is_possible() else None


def _drawn(positions: list[int], max_scans: int, rng: np.random.Generator) -> list[int]:
    if len(positions) <= max_scans:
        return positions
    return sorted(rng.choice(positions, max_scans, replace=False).tolist())


def _auroc(class_M: np.ndarray, prob_MC: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    areas = [roc_auc_score(class_M == c, prob_MC[:, c]) for c in range(prob_MC.shape[1])]
    return float(np.mean(areas))
