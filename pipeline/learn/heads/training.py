"""Fits one head: in a plain task on one worker, or by Ray Train on several.

The objective is that of scikit-learn's LogisticRegression with soft targets and sample weights,
`0.5 * l2 * |W|^2 + sum_i w_i * CE(target_i, softmax(W x_i + b))`, biases unpenalised.
"""

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads import linear, mlp
from pipeline.learn.heads.head import Head, Problem, Worker

ITERATIONS_AN_EPOCH = 20  # of a linear head, which has no other epochs


def train_loop(problem: Problem, config: TrainConfig, seed: int, worker: Worker | None = None) -> Head:
    """Fit one head: a linear one to convergence, an MLP until its loss no longer falls.

    Args:
        problem: Rows to learn from, those of all workers.
        config: Options.
        seed: Of an MLP's first weights, its dropout and its batches.
        worker: One of several that train together, or the state to go on from; None: alone, from the start.

    Raises:
        FloatingPointError: when the loss is not finite.
    """
    if config.head == "linear":
        return linear.fit(problem, config.max_epochs * ITERATIONS_AN_EPOCH, worker)
    return mlp.fit(problem, config, seed, worker or Worker())
