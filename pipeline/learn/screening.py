"""What beside its probability decides whether a scan gets a pseudo-label: its cluster, and a second opinion.

The second opinion is a k-nearest-neighbour classifier over the expert labels, see `vectors.nearest_labels`: it shares
the features with the heads, and nothing else.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts.config import PseudoConfig
from pipeline.contracts.tables import CLUSTERS
from pipeline.learn.material import Material
from pipeline.runtime import run_files
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import ROWS_AT_ONCE, unit_rows
from pipeline.vectors.nearest_labels import nearest_label_classes

# N scans, T of the training pool, A of them asked about, E labelled by experts, C findings


@dataclass(frozen=True)
class Screening:
    """What is known of N scans that may get a pseudo-label.

    Attributes:
        cluster_N: Cluster of each; None: it does not matter.
        opinion_N: Class by the second opinion, negative where nobody can be asked; None: it does not matter.
    """

    cluster_N: np.ndarray | None = None
    opinion_N: np.ndarray | None = None

    def keep(self, mask_N: np.ndarray) -> "Screening":
        """The same of the scans where the mask is True."""
        parts = (self.cluster_N, self.opinion_N)
        return Screening(*(None if along_N is None else along_N[mask_N] for along_N in parts))


def screening_of(material: Material, config: PseudoConfig, learn_E: np.ndarray, num_classes: int) -> Screening:
    """What the options ask to know of the training pool's scans (T,).

    Args:
        material: What the round learns from.
        config: Options.
        learn_E: Expert labels that may be asked: those a fold may see, a mask.
        num_classes: C.
    """
    cluster_T = opinion_T = None
    if config.cap_per_cluster is not None:
        table = run_files.read(material.folder, CLUSTERS)
        place = pc.index_in(material.pool_T.image_id, value_set=table["image_id"].combine_chunks())
        cluster_T = table["cluster"].to_numpy()[np.asarray(place)]
    if config.second_opinion == "require":
        opinion_T = second_opinion(
            material, np.ones(len(material.pool_T), bool), learn_E, config.second_opinion_neighbors, num_classes
        )
    return Screening(cluster_T, opinion_T)


def second_opinion(
    material: Material, asked_T: np.ndarray, learn_E: np.ndarray, num_neighbors: int, num_classes: int
) -> np.ndarray:
    """The class that the nearest expert-labelled scans of other patients have, see `nearest_labels`.

    Args:
        material: What the round learns from; the features lie in its folder.
        asked_T: Scans of the training pool to speak of: a mask.
        learn_E: Expert labels that may be asked: a mask.
        num_neighbors: Labels that vote.
        num_classes: C.

    Returns:
        Class index of each scan asked about, in the pool's order; negative where nobody can be asked.
    """
    x_NP = principal_components.load(material.folder)
    experts = material.expert_E.keep(learn_E)
    unit_EP = unit_rows(x_NP[material.scans_N.positions(experts)])
    patients, patient_E = np.unique(np.asarray(material.group_E, str)[learn_E], return_inverse=True)
    number_of = {str(patient): number for number, patient in enumerate(patients)}
    patient_A = np.array([number_of.get(str(group), -1) for group in material.group_T[asked_T]], np.int64)
    rows_A = material.scans_N.positions(material.pool_T.keep(asked_T))
    said_A = np.empty(len(rows_A), np.int64)
    for start in range(0, len(rows_A), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        said_A[some] = nearest_label_classes(
            unit_rows(x_NP[rows_A[some]]),
            unit_EP,
            material.class_E[learn_E],
            patient_A[some],
            patient_E,
            num_neighbors,
            num_classes,
        )
    return said_A
