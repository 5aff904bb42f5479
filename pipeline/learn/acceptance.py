"""From the teacher's logits to pseudo-labels: the few numbers that turn scores into decisions, fitted out of fold.

Beside its probability a scan's cluster and a second opinion may decide. The second opinion is a k-nearest-neighbour
classifier over the expert labels, see `vectors.nearest_labels`: it shares the features with the heads, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts.options.learning import PseudoConfig
from pipeline.contracts.tables import CLUSTERS
from pipeline.learn import pseudo_labels
from pipeline.learn.lesson import scan_weights
from pipeline.learn.material import Material
from pipeline.learn.pseudo_labels import Decisions, Screening
from pipeline.measures import calibrate, certify
from pipeline.runtime import run_files
from pipeline.vectors.matrix import unit_rows
from pipeline.vectors.nearest_labels import nearest_label_classes
from pipeline.vectors.row_blocks import row_blocks

# N scans, T of the training pool, A of them asked about, E labelled by experts, J of those may judge, C findings


@dataclass(frozen=True)
class Acceptance:
    """How the teacher's logits become pseudo-labels; fitted on its out-of-fold logits of the expert-labelled scans.

    Attributes:
        temperature: Of the logits, > 0.
        learning_prior_C: Share of each class that the logits are for, see `calibrate.learning_prior`; sums to 1.
        prevalence_C: Share of each class in the pool; sums to 1.
        threshold_C: Probability at that prevalence from which on a pseudo-label is accepted; above 1: never.
        precision_estimated: Share of right ones among the expert-labelled scans the thresholds accept out of fold,
            0 to 1; None: they accept none.
        admitted_C: Whether the gate lets the class into training.
        config: Caps and queue of the decisions.
    """

    temperature: float
    learning_prior_C: np.ndarray
    prevalence_C: np.ndarray
    threshold_C: np.ndarray
    precision_estimated: float | None
    admitted_C: Sequence[bool]
    config: PseudoConfig

    @classmethod
    def fit(
        cls, oof_logit_EC: np.ndarray, material: Material, admitted_C: Sequence[bool], config: PseudoConfig
    ) -> "Acceptance":
        """Temperature, prevalence from the uniform slice, thresholds that keep the promise; by scans that may judge."""
        num_classes = oof_logit_EC.shape[1]
        prevalence_C = material.prevalence(num_classes)
        logit_JC, class_J = oof_logit_EC[material.judges_E], material.class_E[material.judges_E]
        prior_C = calibrate.learning_prior(class_J, num_classes)
        temperature = calibrate.fit_temperature(logit_JC, class_J, scan_weights(class_J, num_classes))
        prob_JC = _at_prevalence(logit_JC, temperature, prior_C, prevalence_C)
        weight_J = _pool_weights(class_J, prevalence_C)
        threshold_C = certify.estimate_thresholds(prob_JC, class_J, weight_J, promise=config.precision)
        precision = certify.estimated_precision(prob_JC, class_J, weight_J, threshold_C)
        return cls(temperature, prior_C, prevalence_C, threshold_C, precision, admitted_C, config)

    def probabilities(self, logit_NC: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, C) at the pool's prevalence."""
        return _at_prevalence(logit_NC, self.temperature, self.learning_prior_C, self.prevalence_C)

    def decide(self, prob_NC: np.ndarray, screening: Screening) -> Decisions:
        """What becomes of scans with these probabilities at the pool's prevalence, and what else is known of them."""
        return pseudo_labels.decide(
            prob_NC, self.threshold_C, self.config, self.admitted_C, self.prevalence_C, screening
        )

    def at_learning_prior(self, prob_NC: np.ndarray) -> np.ndarray:
        """Probabilities (N, C) at the pool's prevalence as ones at the class shares that heads learn with."""
        return calibrate.shift_prior(prob_NC, self.prevalence_C, self.learning_prior_C)

    @property
    def learning_threshold_C(self) -> np.ndarray:
        """The thresholds as ones on probabilities at the learning prior, each class against the rest."""
        odds_C = self.threshold_C / np.maximum(1.0 - self.threshold_C, 1e-12)
        odds_C = odds_C * (1.0 - self.prevalence_C) / self.prevalence_C
        odds_C = odds_C * self.learning_prior_C / (1.0 - self.learning_prior_C)
        return np.where(self.threshold_C > 1.0, self.threshold_C, odds_C / (1.0 + odds_C))


def _at_prevalence(
    logit_NC: np.ndarray, temperature: float, learning_prior_C: np.ndarray, prevalence_C: np.ndarray
) -> np.ndarray:
    """Probabilities (N, C) at the pool's prevalence, of logits that are for the learning prior."""
    prob_NC = calibrate.apply_temperature(logit_NC, temperature)
    return calibrate.shift_prior(prob_NC, learning_prior_C, prevalence_C)


def _pool_weights(class_E: np.ndarray, prevalence_C: np.ndarray) -> np.ndarray:
    """Weights (E,) that bring the chosen labels' class frequencies to the pool's prevalence."""
    frequency_C = np.bincount(class_E, minlength=len(prevalence_C)) / len(class_E)
    weight_C = np.divide(prevalence_C, frequency_C, out=np.zeros_like(prevalence_C), where=frequency_C > 0)
    return np.asarray(weight_C[class_E])


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
        material: What the round learns from; its features decide who is near.
        asked_T: Scans of the training pool to speak of: a mask.
        learn_E: Expert labels that may be asked: a mask.
        num_neighbors: Labels that vote.
        num_classes: C.

    Returns:
        Class index of each scan asked about, in the pool's order; negative where nobody can be asked.
    """
    x_NP = material.features.load().x_NP
    experts = material.expert_E.keep(learn_E)
    unit_EP = unit_rows(x_NP[material.scans_N.positions(experts)])
    patients, patient_E = np.unique(np.asarray(material.group_E, str)[learn_E], return_inverse=True)
    number_of = {str(patient): number for number, patient in enumerate(patients)}
    patient_A = np.array([number_of.get(str(group), -1) for group in material.group_T[asked_T]], np.int64)
    rows_A = material.scans_N.positions(material.pool_T.keep(asked_T))
    said_A = np.empty(len(rows_A), np.int64)
    for some in row_blocks(len(rows_A)):
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
