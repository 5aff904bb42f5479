"""Options of learning: rounds, head, network, pseudo-labels and their release."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.contracts.options.section import Section, Share
from pipeline.contracts.options.vectors import AugmentConfig


class TrainConfig(Section):
    """The classifier on top of the embeddings."""

    head: Literal["linear", "mlp"] = Field("linear", description="Logistic regression or one hidden layer.")
    hidden: int = Field(128, ge=1, le=8192, description="mlp: hidden units.")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="mlp: dropout.")
    teacher_l2: float = Field(
        10.0, gt=0.0, description="L2 penalty of the head on expert labels (1/C of scikit-learn)."
    )
    student_l2: float = Field(
        0.5, gt=0.0, description="L2 penalty of the head on expert and pseudo-labels (1/C of scikit-learn)."
    )
    num_components: int = Field(
        256,
        ge=2,
        le=8192,
        description="Principal components of the embeddings the head sees; more is slower.",
    )
    max_rows: int = Field(50_000, ge=100, description="Scans the head learns from; a larger pool is sampled.")
    max_epochs: int = Field(60, ge=1, description="Passes of the optimiser.")
    patience: int = Field(8, ge=1, description="mlp: epochs without a better validation loss.")
    lr: float = Field(2e-3, gt=0.0, le=1.0, description="mlp: learning rate of AdamW.")
    batch_size: int = Field(256, ge=1, description="mlp: rows a step.")
    num_workers: int = Field(1, ge=1, description="1: a plain Ray task; more: Ray Train.")
    adapt: Literal["head", "partial", "adapter", "full"] = Field(
        "head",
        description="What learns: the head; the last stages, over cached activations; adapters of low rank in the "
        "same stages (LoRA); the whole network.",
    )
    adapt_rounds: Literal["last", "all"] = Field(
        "last", description="The rounds that adapt the network; no queue needs it before the last."
    )
    findings: Literal["together", "apart"] = Field(
        "together",
        description="Of independent findings. together: one adapted network learns all of them, in the time of one; "
        "apart: each finding has a network of its own.",
    )


class NetworkConfig(Section):
    """How a network is trained: `train.adapt` partial, adapter and full, and the baselines."""

    last_stages: int = Field(
        3, ge=1, le=100, description="partial, adapter: stages that learn; the others run once a view."
    )
    num_views: int = Field(4, ge=1, le=64, description="partial, adapter: views a scan whose activations are cached.")
    adapter_rank: int = Field(8, ge=1, le=1024, description="adapter: rank of the matrices that learn.")
    adapter_alpha: float = Field(
        16.0, gt=0.0, le=10_000.0, description="adapter: their product counts alpha / rank times."
    )
    epochs: int = Field(1, ge=1, le=10_000, description="Passes over the scans.")
    min_steps: int = Field(160, ge=1, description="A small pool is passed over as often as it takes to make so many.")
    lr: float = Field(4e-4, gt=0.0, le=1.0, description="Highest learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0.0, le=1.0, description="Of AdamW.")
    warmup_share: Share = Field(0.1, description="Share of the steps in which the learning rate rises; then a cosine.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Scans a step, over all workers.")
    accumulate: int = Field(1, ge=1, le=4096, description="Parts a step is computed in, where memory is short.")
    open_scans: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Weight of scans left open, by the student's probabilities of them; 0: the network learns from "
        "expert and accepted labels alone. No pseudo.gate but estimated lets them in.",
    )
    balance: Literal["none", "weights", "sampling"] = Field(
        "none", description="Classes of equal weight in the loss, or drawn equally often."
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of a target spread over all classes.")
    focal_gamma: float = Field(0.0, ge=0.0, le=10.0, description="Focal loss; 0: cross-entropy.")
    mixup: float = Field(0.0, ge=0.0, le=10.0, description="Alpha of mixup; 0: none.")
    ema: float = Field(0.0, ge=0.0, lt=1.0, description="Decay of the moving average of the weights; 0: none.")
    consistency: float = Field(
        0.0,
        ge=0.0,
        le=100.0,
        description="Weight of the loss that holds a view of an open scan to what the plain scan surely is (FixMatch).",
    )
    patience: int = Field(
        0,
        ge=0,
        description="Epochs without a better loss on a fifth of the expert labels, of other patients (the head "
        "it starts from knows them, so it stops early rather than late); 0: no early stopping.",
    )
    precision: Literal["auto", "fp32", "amp"] = Field("auto", description="auto: mixed precision on a GPU.")
    augment: AugmentConfig = Field(AugmentConfig(), description="The views.")


class PseudoConfig(Section):
    """Pseudo-labels: estimated for training, certified for release."""

    gate: Literal["estimated", "certified", "off"] = Field(
        "estimated",
        description="estimated: out-of-fold precision admits; certified: only what blind checks prove; off: none.",
    )
    precision: float = Field(0.97, gt=0.5, lt=1.0, description="The promise: precision of accepted labels.")
    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Of the one-sided bound of the certificate.")
    queue_below: float = Field(
        0.7,
        ge=0.0,
        le=1.0,
        description="Calibrated probability under which a scan is marked as worth an expert.",
    )
    max_share: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        description="Largest share of the scans predicted as a class that may be accepted.",
    )
    cap_per_class: float | None = Field(
        None,
        gt=0.0,
        le=100.0,
        description="Most pseudo-labels of a class, as a multiple of how many the open scans should hold by the "
        "estimated prevalence; the surest stay. null: no cap.",
    )
    cap_per_cluster: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Largest share of all accepted pseudo-labels that may lie in one cluster; the surest stay. null: "
        "no cap.",
    )
    second_opinion: Literal["report", "require"] = Field(
        "report",
        description="What the nearest expert-labelled scans of other patients say. report: how often they agree with "
        "the pseudo-labels; require: a pseudo-label they do not agree with is not accepted.",
    )
    second_opinion_neighbors: int = Field(5, ge=1, le=200, description="Expert labels that vote on a scan.")
    propagate: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Weight of scans left open, by labels spread over the neighbour graph; 0: the head learns from "
        "expert and accepted labels alone, which was as good or better on every pool measured.",
    )
    num_neighbors: int = Field(15, ge=1, le=200, description="Neighbours of the propagation graph.")
    spread_alpha: float = Field(0.5, ge=0.0, lt=1.0, description="Share of a label that neighbours hand on.")
    rollback_auroc: float = Field(
        0.005,
        ge=0.0,
        le=1.0,
        description="A round that costs more calibration AUROC than this is rolled back.",
    )
    rollback_accuracy: float = Field(
        0.03, ge=0.0, le=1.0, description="Likewise of the accuracy of the most probable class."
    )
    rollback_brier: float = Field(0.02, ge=0.0, le=1.0, description="Likewise a rise of the Brier score, 0 to 1.")


class ReleaseConfig(Section):
    """Pseudo-labels for others: what is frozen, promised and checked; the confidence is `pseudo.confidence`."""

    promise: float = Field(
        0.9,
        gt=0.5,
        lt=0.999,
        description="Precision that is certified before anything is released; .90 needs 36 clean checks at .95 "
        "confidence, .95 needs 72; of a small release fewer.",
    )
    freeze_round: int | None = Field(
        None,
        ge=0,
        description="Freeze after this round, or the first later one that accepts something; 0: never. null: after the "
        "last round whose remaining queues can pay for the checks planned; a shorter run freezes nothing.",
    )
    run_share: Share = Field(
        0.4,
        description="Largest share of all the labels of a run planned as checks: they are planned for as many errors "
        "as it pays for. The later a release is frozen, the better the model it comes from.",
    )
    check_share: Share = Field(
        0.95,
        description="Share of the budget of a queue spent on checks of a frozen release while they are needed; they go "
        "before the uniform slice. Two queues of 20 pay for the 37 checks with which a tier of 72 scans may have an "
        "error among them.",
    )
    surest_share: Share = Field(
        0.25,
        description="Share of the release that is its surest tier, which holds sooner than the whole; it has room for "
        "twice the clean checks where the release has.",
    )
    begin_with: Literal["auto", "surest", "whole"] = Field(
        "auto",
        description="What is certified first: surest, the surest tier; whole: all. auto: the whole where the "
        "classifier holds nearly all of it to be right, else the surest tier; decided before the first check.",
    )

    def checks_in(self, budget: int) -> int:
        """Most checks in a queue of so many scans; rounded down, so that a share below 1 leaves room for others."""
        return math.floor(self.check_share * budget + 1e-9)


class CalibrateConfig(Section):
    """Out-of-fold calibration."""

    num_folds: int = Field(5, ge=2, le=20, description="Patient-grouped folds over the expert labels.")


class RoundsConfig(Section):
    """The loop."""

    num: int = Field(5, ge=1, le=1000, description="Rounds of queue, labels, training and pseudo-labels.")
    reference: bool = Field(
        True, description="With --oracle, also run random selection on the same budget as a reference curve."
    )


class StopConfig(Section):
    """When further labels are no longer worth their price: advice, and whether the rounds end by it."""

    advise: bool = Field(
        True, description="After every round, forecast what further labels would buy, and compare its predictions."
    )
    when: Literal["never", "stable", "forecast"] = Field(
        "never",
        description="What ends the rounds before rounds.num: nothing; stable predictions; a forecast that further "
        "labels buy too little. Not while blind checks of a release are to come.",
    )
    agreement: float = Field(
        0.99,
        gt=0.0,
        le=1.0,
        description="stable: Cohen's kappa of consecutive rounds' predictions, the mean of the last comparisons.",
    )
    num_comparisons: int = Field(3, ge=1, le=100, description="stable: comparisons that the mean is taken over.")
    num_scans: int = Field(
        2000, ge=10, description="stable: scans of the training pool, drawn once by chance, that are compared."
    )
    horizons: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (20, 50, 100), min_length=1, description="Numbers of further labels whose gain is forecast, rising."
    )
    confidence: float = Field(0.9, ge=0.5, lt=1.0, description="Of the forecast's interval.")
    min_gain: float = Field(
        0.01,
        ge=0.0,
        lt=1.0,
        description="forecast: gain in AUROC by the last of the horizons that is worth the labels; less is said to be "
        "too little only where the upper end of the interval is below it.",
    )
    min_labels: int = Field(30, ge=10, description="Expert labels below which nothing is forecast.")
    num_repeats: int = Field(
        10, ge=2, le=200, description="Draws of subsets of the labels that the learning curve is the mean of."
    )

    @model_validator(mode="after")
    def _horizons_rise(self) -> "StopConfig":
        if list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"horizons must rise, not {list(self.horizons)}")
        return self
