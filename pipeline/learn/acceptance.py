"""From the teacher's logits to pseudo-labels: the few numbers that turn scores into decisions, fitted out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.contracts.config import PseudoConfig
from pipeline.learn import pseudo_labels
from pipeline.learn.lesson import scan_weights
from pipeline.learn.material import Material
from pipeline.learn.pseudo_labels import Decisions
from pipeline.learn.screening import Screening
from pipeline.measures import calibrate, certify

# N scans, E labelled by experts, C findings


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
        """Temperature, prevalence from the uniform slice, thresholds that keep the promise."""
        num_classes = oof_logit_EC.shape[1]
        prevalence_C = material.prevalence(num_classes)
        prior_C = calibrate.learning_prior(material.class_E, num_classes)
        weight_E = scan_weights(material.class_E, num_classes)
        temperature = calibrate.fit_temperature(oof_logit_EC, material.class_E, weight_E)
        prob_EC = _at_prevalence(oof_logit_EC, temperature, prior_C, prevalence_C)
        weight_E = _pool_weights(material.class_E, prevalence_C)
        threshold_C = certify.estimate_thresholds(prob_EC, material.class_E, weight_E, promise=config.precision)
        precision = certify.estimated_precision(prob_EC, material.class_E, weight_E, threshold_C)
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
