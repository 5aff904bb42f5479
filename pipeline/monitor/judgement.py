"""What can be said of a batch without a label: class shares, accuracy, verdict; and what cannot be said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.contracts import finding_line
from pipeline.contracts.options.evidence import MonitorConfig
from pipeline.monitor import cause, label_shift, streams
from pipeline.monitor.label_shift import Estimate, Judged
from pipeline.monitor.sample import Sample
from pipeline.monitor.streams import Comparison, OutsideRule, Reading
from pipeline.runtime import run_files

STEADY, WATCH, RETRAIN, UNKNOWN = "steady", "watch", "retrain", "unknown"
EXIT_CODES = {STEADY: 0, UNKNOWN: 0, WATCH: 5, RETRAIN: 6}
FEWEST = 30  # patients below which silence says nothing and nothing is estimated
LARGEST_GAP = 0.1  # between confidence and accuracy on the holdout: beyond, a probability is none
FEWEST_JUDGED = 50  # labelled held-out scans
RULE = (
    "steady: no variable of any stream moved (Holm-corrected p at most {level:g}); watch: something moved; retrain: "
    "something moved, and {outside:.0%} of the scans or more are outside what the model knows, or the interval of the "
    "estimated accuracy lies more than {loss:g} below the holdout's; unknown: fewer than {fewest} patients, and "
    "nothing moved"
)


@dataclass(frozen=True)
class Model:
    """What is known of the model that predicted both sides.

    Attributes:
        findings: Classes or independent findings.
        independent: Whether they are independent.
        priors: By question, None of exclusive classes: class shares (C,) that probabilities are for.
        judged: By question what its holdout came to; None: no labelled holdout.
    """

    findings: tuple[str, ...]
    independent: bool
    priors: dict[str | None, np.ndarray]
    judged: dict[str | None, Judged | None]


@dataclass
class Judgement:
    """A batch beside its reference.

    Attributes:
        verdict: steady, watch, retrain, or unknown where there are too few scans to tell.
        why: The part of the rule that decided.
        cause: None where nothing moved.
        comparison: All streams.
        beyond_mix: The same against the part of the reference with the batch's mix; None: nothing moved, or not known.
        share_outside: None: not known.
        accuracy: By question.
        shares: By question, by method (`em`, `bbse`), by class.
        cannot_tell: What a reader must not take from it.
    """

    verdict: str
    why: str
    cause: cause.Cause | None
    comparison: Comparison
    beyond_mix: Comparison | None
    share_outside: float | None
    accuracy: dict[str, Estimate] = field(default_factory=dict)
    shares: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    cannot_tell: list[str] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Reading] | None:
        """What moved beyond the mix, of the streams that had moved; None: not known how much the mix explains."""
        if self.beyond_mix is None:
            return None
        streams_moved = {reading.stream for reading in self.comparison.moved}
        return [reading for reading in self.beyond_mix.moved if reading.stream in streams_moved]


def judged_by(folder: Path) -> Judged | None:
    """What the last round's score of the holdout says; None: no labelled holdout."""
    path = folder / run_files.METRICS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    holdout = json.loads(lines[-1]).get("holdout") if lines else None
    if not holdout or holdout.get("accuracy") is None or holdout["num_scans"] < FEWEST_JUDGED:
        return None
    ends = holdout.get("accuracy_ci95")
    error = (ends[1] - ends[0]) / 3.92 if ends else np.sqrt(0.25 / holdout["num_scans"])
    return Judged(float(holdout["accuracy"]), float(error), np.array(holdout["confusion"], np.float64))


def judge(
    reference: Sample,
    batch: Sample,
    side: str,
    model: Model,
    rule: OutsideRule | None,
    config: MonitorConfig,
    seed: int,
) -> Judgement:
    """Compare, estimate, decide.

    Args:
        reference: The run's own scans.
        batch: At least one scan.
        side: Where the reference is from: holdout or training.
        model: The model of both.
        rule: What outside means; None: it cannot be said.
        config: `monitor.*`.
        seed: Of all draws.
    """
    rng = np.random.default_rng(seed)

    def skip(stream: str) -> str | None:
        learned_from = stream == streams.PREDICTIONS and side != "holdout"
        return "the reference is of the training pool, which the model has learned from" if learned_from else None

    def compared(with_: Sample, rule: OutsideRule | None) -> Comparison:
        return streams.compare(
            with_, batch, model.findings, rule, config, rng, independent=model.independent, skip=skip
        )

    comparison = compared(reference, rule)
    share_outside = None if rule is None else float(np.mean([bool(x) for x in batch.table["outside"].to_pylist()]))
    judgement = Judgement(STEADY, "nothing moved", None, comparison, None, share_outside)
    sides = {
        question: _both_sides(question, prior_C, reference, batch, model, rng)
        for question, prior_C in model.priors.items()
    }
    if comparison.moved:
        weight_N = np.prod([of.weight_N for of in sides.values()], axis=0)
        like = reference.take(label_shift.like_the_batch(weight_N, reference.group_N, rng))
        if like.num_groups >= FEWEST and batch.num_groups >= FEWEST:
            judgement.beyond_mix = compared(like, None)  # the rate outside is that of the reference's mix
    for question, of in sides.items():
        _estimate(judgement, question, of, batch, side, model.judged.get(question), config, rng)
    judgement.cause = cause.of(comparison.moved, judgement.unexplained)
    judgement.verdict, judgement.why = _verdict(judgement, model, batch, config)
    judgement.cannot_tell += _blind_spots(reference, batch, side, comparison, config)
    return judgement


@dataclass(frozen=True)
class _Sides:
    """One question on both sides.

    Attributes:
        classes: C names.
        weight_N: How many times as frequent scans like each of the reference are in the batch.
        share_BC: Class shares of the batch by EM, in each redraw.
        confidence_B: Mean probability of the given answer in the reference, and in the batch, in each redraw.
        answer_N: Class that was named, of the batch.
        redraws_BN: Of the batch's patients.
    """

    classes: list[str]
    weight_N: np.ndarray
    share_BC: np.ndarray
    confidence_B: tuple[np.ndarray, np.ndarray]
    answer_N: np.ndarray
    redraws_BN: np.ndarray


def _both_sides(
    question: str | None, prior_C: np.ndarray, reference: Sample, batch: Sample, model: Model, rng: np.random.Generator
) -> _Sides:
    shares, confidences, probs, drawn = [], [], [], []
    for sample in (reference, batch):
        drawn.append(label_shift.redraws(sample.group_N, rng))
        probs.append(_class_probabilities(sample, question, model.findings))
        shares.append(label_shift.em_shares(probs[-1], prior_C, drawn[-1]))
        answer_N = _answers(sample, question, model.findings)
        confidences.append(_mean_confidence(probs[-1], answer_N, prior_C, shares[-1], drawn[-1]))
    ratio_C = shares[1][0] / np.maximum(shares[0][0], label_shift.SMALLEST)
    return _Sides(
        classes=list(model.findings) if question is None else list(finding_line.question(question)),
        weight_N=np.asarray(probs[0] @ ratio_C),
        share_BC=shares[1],
        confidence_B=(confidences[0], confidences[1]),
        answer_N=answer_N,
        redraws_BN=drawn[1],
    )


def _estimate(
    judgement: Judgement,
    question: str | None,
    of: _Sides,
    batch: Sample,
    side: str,
    judged: Judged | None,
    config: MonitorConfig,
    rng: np.random.Generator,
) -> None:
    """Fill in the accuracy and the class shares of a question, or why there are none."""
    name = question or "answer"
    refused = _refusal(judgement, batch, side, judged, float(of.confidence_B[0][0]), config)
    if refused is not None or judged is None:
        no = Estimate(None, refused=refused)
        judgement.accuracy[name] = no
        judgement.shares[name] = {method: dict.fromkeys(of.classes, no) for method in ("em", "bbse")}
        return
    judgement.accuracy[name] = label_shift.accuracy(*of.confidence_B, judged, rng)
    by_errors_BC = label_shift.bbse_shares(of.answer_N, judged.confusion_CC, of.redraws_BN, rng)
    blind = [Estimate(None, refused="the holdout's confusions do not tell the classes apart")] * len(of.classes)
    bbse = blind if by_errors_BC is None else label_shift.estimates(by_errors_BC)
    judgement.shares[name] = {
        "em": dict(zip(of.classes, label_shift.estimates(of.share_BC), strict=True)),
        "bbse": dict(zip(of.classes, bbse, strict=True)),
    }


def _class_probabilities(sample: Sample, question: str | None, findings: Sequence[str]) -> np.ndarray:
    if question is None:
        return np.column_stack([sample.probabilities(finding) for finding in findings])
    present_N = sample.probabilities(question)
    return np.column_stack([1 - present_N, present_N])


def _answers(sample: Sample, question: str | None, findings: Sequence[str]) -> np.ndarray:
    answers = sample.table["answer"].to_pylist()
    if question is None:
        return np.array([findings.index(answer) for answer in answers])
    return np.array([int(finding_line.read(answer)[question] == 1.0) for answer in answers])


def _mean_confidence(
    prob_NC: np.ndarray, answer_N: np.ndarray, prior_C: np.ndarray, share_BC: np.ndarray, weight_BN: np.ndarray
) -> np.ndarray:
    """Mean probability of the given answer at the sample's own class shares, in each redraw (B,)."""
    at_NC = label_shift.at_shares(prob_NC, prior_C, share_BC[0])
    own_N = at_NC[np.arange(len(answer_N)), answer_N]
    return np.asarray(weight_BN @ own_N / np.maximum(weight_BN.sum(1), 1e-12))


def _refusal(
    judgement: Judgement, batch: Sample, side: str, judged: Judged | None, confidence: float, config: MonitorConfig
) -> str | None:
    """Why nothing is estimated; None: it is."""
    if judged is None or side != "holdout":
        return "the run has no labelled holdout large enough to check its calibration on"
    if batch.num_groups < FEWEST:
        return f"fewer than {FEWEST} patients"
    if abs(confidence - judged.accuracy) > LARGEST_GAP:
        return (
            f"on the holdout the model is sure of {confidence:.2f} of its answers and right in {judged.accuracy:.2f}: "
            "its probabilities cannot be trusted"
        )
    if judgement.share_outside is not None and judgement.share_outside >= config.retrain_outside_share:
        return f"{judgement.share_outside:.0%} of the scans are outside what the model knows"
    left = judgement.comparison.moved if judgement.unexplained is None else judgement.unexplained
    changed = [reading.variable for reading in left if reading.stream in (streams.EMBEDDINGS, streams.PICTURES)]
    if changed:
        return (
            f"the scans themselves look otherwise ({', '.join(changed[:3])}), so that probabilities cannot be trusted"
        )
    return None


def _verdict(judgement: Judgement, model: Model, batch: Sample, config: MonitorConfig) -> tuple[str, str]:
    if not judgement.comparison.moved:
        few = batch.num_groups < FEWEST
        return (UNKNOWN, f"fewer than {FEWEST} patients, and nothing moved") if few else (STEADY, "nothing moved")
    if judgement.share_outside is not None and judgement.share_outside >= config.retrain_outside_share:
        return RETRAIN, f"{judgement.share_outside:.0%} of the scans are outside what the model knows"
    for question, estimate in judgement.accuracy.items():
        judged = model.judged.get(None if question == "answer" else question)
        if judged is None or estimate.high is None or estimate.value is None:
            continue
        if estimate.high < judged.accuracy - config.retrain_accuracy_loss:
            what = "the answers" if question == "answer" else question
            return RETRAIN, (
                f"the accuracy of {what} is estimated at {estimate.value:.3f}, at most {estimate.high:.3f}, and was "
                f"{judged.accuracy:.3f} on the holdout"
            )
    streams_moved = sorted({reading.stream for reading in judgement.comparison.moved})
    return WATCH, f"moved: {', '.join(streams_moved)}"


def _blind_spots(
    reference: Sample, batch: Sample, side: str, comparison: Comparison, config: MonitorConfig
) -> list[str]:
    """What a reader must not take from it."""
    blind_spots = []
    num, others = batch.num_groups, reference.num_groups
    # Kolmogorov's law at the corrected level: a smaller distance of two distribution functions goes unseen.
    level = config.false_alarm_rate / max(len(comparison.readings), 1)
    smallest = float(np.sqrt(-np.log(level / 2) / 2) * np.sqrt((num + others) / (num * others)))
    if num < FEWEST:
        blind_spots.append(
            f"a batch of {num} patients is too small: whether a number moved is seen only where its distribution "
            f"function is off by {min(smallest, 1.0):.2f} of 1 or more; class shares and accuracy are not estimated"
        )
    if side != "holdout":
        blind_spots.append("predictions are not compared, because the run has no holdout large enough to compare with")
    blind_spots.append(
        "whether a given finding looks otherwise than before, without a label: only frequencies are estimated"
    )
    return blind_spots
