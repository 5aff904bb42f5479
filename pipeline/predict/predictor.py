"""A run's latest model, loaded: from the squares that networks see to probabilities, answers and distances.

What a run has done with its own scans is done here in the same order and precision, so that a scan of the run gets the
probability that stands in its `predictions.parquet`.

Legend: N scans, S side in pixels, D dimensions of the embedding, P features, C classes of a question.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from embeddings import extract
from pipeline.contracts import finding_line
from pipeline.contracts.healthy_class import is_negative
from pipeline.learn.classifier import Classifier
from pipeline.learn.network.exported import Networks
from pipeline.predict import calibration, formulas, outside
from pipeline.predict.calibration import Redraws
from pipeline.predict.recipe import Question, Recipe
from pipeline.vectors import principal_components

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Predicted:
    """What is said of N scans.

    Attributes:
        answer_N: Class, or the line of findings; None where the network gave no finite numbers.
        prob_N: Finding to probabilities; NaN of a finding without a classifier.
        low_N: Lower end of the calibration's interval.
        high_N: Upper end.
        score_N: Distance from the training pool over the threshold: above 1 is outside; NaN where there is none.
        x_NQ: The leading features by which that distance is measured, each over its spread in the training pool.
    """

    answer_N: list[str | None]
    prob_N: Arrays
    low_N: Arrays
    high_N: Arrays
    score_N: np.ndarray
    x_NQ: np.ndarray


class Answerer:
    """One question: its classifier, and the redraws of its calibration."""

    def __init__(self, question: Question) -> None:
        assert question.round_index is not None
        self.finding = question.finding
        self.model = Classifier.load(question.model)
        self._is_of: bool | None = None  # the run's basis; not known yet
        self.redraws: Redraws = calibration.of_round(question.folder, question.round_index, self.model)

    @property
    def network(self) -> Path | None:
        """The ONNX file of a network that sees scans; None of a head, which sees embeddings."""
        return self.model.model if isinstance(self.model.model, Path) else None

    def logits(self, emb_ND: np.ndarray, x_NP: np.ndarray, basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Logits (N, C) of a head.

        Args:
            emb_ND: Embeddings.
            x_NP: The run's features of them.
            basis: What made those; a head that learned before the pool had grown has another.
        """
        if self._is_of is None:
            mean_D, basis_DP = self.model.mean_D, self.model.basis_DP
            assert mean_D is not None
            assert basis_DP is not None
            self._is_of = np.array_equal(mean_D, basis[0]) and np.array_equal(basis_DP, basis[1])
        return self.model.head.logits(x_NP) if self._is_of else self.model.logits(emb_ND)

    def answers(self, logit_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities and the ends of their intervals (N, C), and classes (N,)."""
        prob_NC = np.asarray(self.model.probabilities(logit_NC), np.float64)
        calibrated_NC = formulas.log_softmax(logit_NC / self.model.temperature)
        low_NC, high_NC = self.redraws.interval(calibrated_NC, prob_NC)
        return prob_NC, low_NC, high_NC, self.model.classes(prob_NC)

    def evidence(self, logit_NC: np.ndarray) -> dict[str, np.ndarray]:
        """How far the calibrated logit of each finding stands above that of the healthy class (N,).

        Above the mean of the others' where no class is called healthy, or where it is the healthy one itself. Of two
        classes that is the log-odds at balanced classes. A probability near 0 or 1 would hardly move.
        """
        cooled_NC, classes = np.asarray(logit_NC, np.float64) / self.model.temperature, self.model.findings
        evidence: dict[str, np.ndarray] = {}
        for c, finding in enumerate(classes):
            others = [other for other in range(len(classes)) if other != c]
            healthy = [other for other in others if is_negative(classes[other]) and not is_negative(finding)]
            if self.finding in (None, finding):
                evidence[finding] = cooled_NC[:, c] - cooled_NC[:, healthy or others].mean(1)
        return evidence


class Predictor:
    """Predicts batch by batch; a scan's numbers do not depend on its batch.

    Args:
        recipe: How.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        embed, _ = extract.forward_of(
            recipe.backbone, recipe.features, recipe.size_px, recipe.embedder, recipe.num_threads
        )
        self._embed: Callable[[np.ndarray], np.ndarray] = embed
        mean_D, basis_DP = (array.astype(np.float64) for array in principal_components.load_basis(recipe.run))
        self._basis = mean_D, basis_DP
        self.outside = outside.of_run(recipe.run)
        self.answerers = {
            question.finding: Answerer(question) for question in recipe.questions if question.round_index is not None
        }

        networks = {str(finding): of.network for finding, of in self.answerers.items() if of.network is not None}
        self._networks = Networks(networks, recipe.num_threads)

    @property
    def findings(self) -> tuple[str, ...]:
        """The columns of probabilities: the classes, or the independent findings."""
        if None in self.answerers:
            return self.answerers[None].model.findings
        return tuple(str(question.finding) for question in self.recipe.questions)

    def predict(self, scan_N1SS: np.ndarray) -> Predicted:
        """What is said of squares that networks see, float32 in [0, 1]."""
        emb_ND, finite_N = self.embeddings(scan_N1SS)
        x_NP = principal_components.project(emb_ND, *self._basis)
        score_N = self.outside.scores(x_NP, self.recipe.false_alarm_rate)
        score_N[~finite_N] = np.nan
        logits = self._logits(scan_N1SS, emb_ND, x_NP)
        if None in self.answerers:
            answer_N, columns = self._of_classes(self.answerers[None], logits[None])
        else:
            answer_N, columns = self._of_findings(len(scan_N1SS), logits)
        for column in columns:
            for values_N in column.values():
                values_N[~finite_N] = np.nan
        named_N = [answer if finite else None for answer, finite in zip(answer_N, finite_N.tolist(), strict=True)]
        return Predicted(named_N, *columns, score_N, formulas.scaled(x_NP, self.outside.scale_Q))

    @property
    def priors(self) -> dict[str | None, np.ndarray]:
        """By finding, None of exclusive classes: the class shares (C,) that probabilities are for."""
        return {finding: of.model.prevalence_C for finding, of in self.answerers.items()}

    def embeddings(self, scan_N1SS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N, D) as the run keeps them, and which are finite (N,); zeros where they are not."""
        emb_ND = extract.as_stored(self._embed(scan_N1SS)).astype(np.float32)
        finite_N = np.asarray(np.isfinite(emb_ND).all(1))
        emb_ND[~finite_N] = 0.0
        return emb_ND, finite_N

    def evidence(self, scan_N1SS: np.ndarray) -> dict[str, np.ndarray]:
        """Evidence (N,) for each finding that has a classifier; NaN where a head's embedding is not finite."""
        emb_ND, x_NP, finite_N = np.empty(0), np.empty(0), np.ones(len(scan_N1SS), dtype=bool)
        if self.has_heads:
            emb_ND, finite_N = self.embeddings(scan_N1SS)
            x_NP = principal_components.project(emb_ND, *self._basis)
        evidence: dict[str, np.ndarray] = {}
        for finding, logit_NC in self._logits(scan_N1SS, emb_ND, x_NP).items():
            evidence |= self.answerers[finding].evidence(logit_NC)
        return {finding: np.where(finite_N, values_N, np.nan) for finding, values_N in evidence.items()}

    def _logits(self, scan_N1SS: np.ndarray, emb_ND: np.ndarray, x_NP: np.ndarray) -> dict[str | None, np.ndarray]:
        """Logits (N, C) of every question that has a classifier."""
        of_networks = self._networks.logits(scan_N1SS)
        return {
            finding: of_networks[str(finding)] if of.network is not None else of.logits(emb_ND, x_NP, self._basis)
            for finding, of in self.answerers.items()
        }

    @property
    def has_heads(self) -> bool:
        """Whether some question is answered by a head on the run's embeddings."""
        return any(of.network is None for of in self.answerers.values())

    @staticmethod
    def _of_classes(answerer: Answerer, logit_NC: np.ndarray) -> tuple[list[str], tuple[Arrays, Arrays, Arrays]]:
        """Answers, and for each class its probabilities and both ends of their intervals."""
        prob_NC, low_NC, high_NC, class_N = answerer.answers(logit_NC)
        names = answerer.model.findings
        prob_N, low_N, high_N = (dict(zip(names, ends.T.copy(), strict=True)) for ends in (prob_NC, low_NC, high_NC))
        return [names[c] for c in class_N], (prob_N, low_N, high_N)

    def _of_findings(
        self, num: int, logits: Mapping[str | None, np.ndarray]
    ) -> tuple[list[str], tuple[Arrays, Arrays, Arrays]]:
        """The same of independent findings; NaN of one without a classifier."""
        findings = self.findings
        prob_N, low_N, high_N = ({finding: np.full(num, np.nan) for finding in findings} for _ in range(3))
        state_N = {finding: np.full(num, finding_line.UNKNOWN) for finding in findings}
        for finding in findings:
            answerer = self.answerers.get(finding)
            if answerer is None:
                continue
            prob_NC, low_NC, high_NC, class_N = answerer.answers(logits[finding])
            present = answerer.model.findings.index(finding)
            prob_N[finding], low_N[finding] = prob_NC[:, present].copy(), low_NC[:, present].copy()
            high_N[finding], state_N[finding] = high_NC[:, present].copy(), (class_N == present).astype(np.float64)
        lines = [
            finding_line.write(dict(zip(findings, of_scan, strict=True)), findings)
            for of_scan in zip(*state_N.values(), strict=True)
        ]
        return lines, (prob_N, low_N, high_N)


@lru_cache(maxsize=1)
def load(recipe: Recipe) -> Predictor:
    """The predictor of a recipe; a worker loads it once."""
    return Predictor(recipe)
