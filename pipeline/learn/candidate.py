"""One way to learn, with its out-of-fold logits: what is compared, calibrated, and chosen from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.learn import rollback
from pipeline.learn.head_fits import FittedHead
from pipeline.learn.heads.head import Head, weighted_sum
from pipeline.learn.lesson import scan_weights
from pipeline.learn.material import Material
from pipeline.learn.network.design import Trained
from pipeline.measures import calibrate

# N scans with a vector, E labelled by experts, J of them that may judge, C findings


@dataclass(frozen=True)
class Candidate:
    """A classifier that learned from everything, and the out-of-fold logits that judge it.

    Attributes:
        name: What it learned from.
        model: The head or network.
        logit_NC: Its logits of every scan with a vector, float32.
        oof_logit_EC: Logits of each expert-labelled scan by the fit that did not see its patient, float32.
        of_folds: The heads of the folds, in their order; none for a network, whose folds are gone by then.
    """

    name: str
    model: Head | Trained
    logit_NC: np.ndarray
    oof_logit_EC: np.ndarray
    of_folds: Sequence[FittedHead] = ()

    @classmethod
    def of_heads(cls, name: str, fitted: Sequence[FittedHead], material: Material, fold_E: np.ndarray) -> "Candidate":
        """From a head for each fold, and last the one that learned from everything."""
        *of_folds, (head, logit_NC) = fitted
        oof_EC = np.empty((len(fold_E), logit_NC.shape[1]), np.float32)
        for fold, fit in zip(np.unique(fold_E), of_folds, strict=True):
            oof_EC[fold_E == fold] = material.of_experts(fit.logit_NC)[fold_E == fold]
        return cls(name, head, logit_NC, oof_EC, of_folds)

    @property
    def heads(self) -> list[FittedHead]:
        """Its heads of the folds and, last, the one on everything."""
        assert isinstance(self.model, Head), "a network has no heads of its folds"
        return [*self.of_folds, FittedHead(self.model, self.logit_NC)]

    def calibration(self, material: Material) -> tuple[float, np.ndarray]:
        """Temperature, and bias (C,) of the logits before it, that calibrate at the learning prior."""
        return calibration(self.oof_logit_EC, material)


def calibration(oof_logit_EC: np.ndarray, material: Material) -> tuple[float, np.ndarray]:
    """Temperature and bias (C,) by these out-of-fold logits, see `Candidate.calibration`."""
    oof_JC, class_J = oof_logit_EC[material.judges_E], material.class_E[material.judges_E]
    weight_J = scan_weights(class_J, oof_JC.shape[1])
    temperature = calibrate.fit_temperature(oof_JC, class_J, weight_J)
    return temperature, temperature * calibrate.fit_bias(oof_JC / temperature, class_J, weight_J)


def average(name: str, first: Candidate, second: Candidate, material: Material) -> Candidate:
    """The mean of two candidates' calibrated log-probabilities; of two heads it is one head, fold by fold.

    A student that learned from guesses at the pool is better on one pool and worse on another, and a hundred labels
    cannot say which; the mean need not choose.

    Args:
        name: Of the mean.
        first: Heads.
        second: Heads fitted in the same folds.
        material: What both learned from, for the temperatures that put them on one scale.
    """
    scales = [0.5 / candidate.calibration(material)[0] for candidate in (first, second)]
    fitted = [
        FittedHead(
            weighted_sum([head_a.head, other.head], scales),
            (scales[0] * head_a.logit_NC + scales[1] * other.logit_NC).astype(np.float32),
        )
        for head_a, other in zip(first.heads, second.heads, strict=True)
    ]
    oof_EC = (scales[0] * first.oof_logit_EC + scales[1] * second.oof_logit_EC).astype(np.float32)
    *of_folds, (head, logit_NC) = fitted
    return Candidate(name, head, logit_NC, oof_EC, of_folds)


def falls(
    before_EC: np.ndarray,
    after_EC: np.ndarray,
    material: Material,
    allowed: rollback.Allowed,
    rng: np.random.Generator,
) -> list[rollback.Fall]:
    """How much worse one candidate is out of fold than another, by the logits of both, calibrated; `rollback.falls`."""
    prob_before_EC, prob_after_EC = (
        calibrate.apply_temperature(logit_EC + bias_C, temperature)
        for logit_EC in (before_EC, after_EC)
        for temperature, bias_C in [calibration(logit_EC, material)]
    )
    return rollback.falls(prob_before_EC, prob_after_EC, material.class_E, list(material.group_E), allowed, rng)
