"""The linear head: multinomial logistic regression with soft targets, which is convex, fitted to convergence."""

from typing import Any

import numpy as np

from pipeline.learn.heads.head import Head, Problem, Worker
from pipeline.vectors.row_blocks import row_blocks

# N rows of this worker, P features, C findings

MAX_ITERATIONS = 1200
HISTORY = 20  # gradients that L-BFGS keeps
MAX_GRADIENT = 1e-5  # converged when no component is larger, per unit of weight
MIN_DECREASE = 1e-9  # or when an iteration takes less than this share off the objective


def fit(problem: Problem, max_iterations: int = MAX_ITERATIONS, worker: Worker | None = None) -> Head:
    """Minimise the objective from zero with SciPy's L-BFGS-B; every worker takes the same steps.

    A fit takes seconds: one that was interrupted begins again.

    Args:
        problem: Rows to learn from, those of all workers.
        max_iterations: Of L-BFGS.
        worker: One of several that train together; None: alone.

    Raises:
        FloatingPointError: when the loss is not finite.
    """
    from scipy import optimize

    objective = _Objective(problem, worker or Worker())
    fitted = optimize.minimize(
        objective,
        np.zeros(objective.num_classes * (objective.num_features + 1)),
        jac=True,
        method="L-BFGS-B",
        callback=objective.note,
        options={
            "maxiter": max_iterations,
            "maxfun": 2 * max_iterations,
            "maxcor": HISTORY,
            "gtol": MAX_GRADIENT * objective.total_weight,
            "ftol": MIN_DECREASE,
        },
    )
    weight_CP, bias_C = objective.layers(fitted.x)
    arrays = {"weight0": weight_CP.astype(np.float32), "bias0": bias_C.astype(np.float32)}
    head = Head(arrays, tuple(objective.loss))
    return head if problem.val is None else Head(arrays, head.loss, (_val_loss(head, problem.val),))


class _Objective:
    """The objective and its gradient over the rows of all workers, in double precision."""

    def __init__(self, problem: Problem, worker: Worker) -> None:
        own = slice(worker.rank, None, worker.size)
        x_NP = problem.x_NP[own]
        self.blocks = row_blocks(len(x_NP))
        # In double precision at once where they are few; a block at a time of many, which would double their memory.
        self.x_NP = x_NP.astype(np.float64) if len(self.blocks) == 1 else x_NP
        self.target_NC = np.asarray(problem.target_NC[own], np.float64)
        self.weight_N = np.asarray(problem.weight_N[own], np.float64)
        self.num_features, self.num_classes = problem.x_NP.shape[1], problem.target_NC.shape[1]
        self.total_weight, self.l2, self.worker = float(problem.weight_N.sum()), problem.l2, worker
        self.loss: list[float] = []

    def layers(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (C, P) and biases (C,)."""
        return flat[: -self.num_classes].reshape(self.num_classes, self.num_features), flat[-self.num_classes :]

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Value, and gradient in the order of `flat`."""
        weight_CP, bias_C = self.layers(flat)
        total = np.zeros(1 + len(flat))
        for rows in self.blocks:
            total += self._block(rows, weight_CP, bias_C)
        if self.worker.size > 1:
            import torch

            total = self.worker.sum_(torch.from_numpy(total)).numpy()
        if not np.isfinite(total[0]):
            raise FloatingPointError(f"the training loss is {total[0]} in iteration {len(self.loss)}")
        total[0] += 0.5 * self.l2 * float((weight_CP**2).sum())
        total[1 : 1 + weight_CP.size] += self.l2 * weight_CP.ravel()
        return float(total[0]), total[1:]

    def note(self, intermediate_result: Any) -> None:
        """Keep the loss of an iteration; SciPy gives it by this name."""
        self.loss.append(float(intermediate_result.fun) / self.total_weight)

    def _block(self, rows: slice, weight_CP: np.ndarray, bias_C: np.ndarray) -> np.ndarray:
        """Cross entropy of some rows, and its gradient behind it."""
        x_NP, target_NC, weight_N1 = self.x_NP[rows], self.target_NC[rows], self.weight_N[rows, None]
        x_NP = x_NP.astype(np.float64, copy=False)
        logit_NC = x_NP @ weight_CP.T + bias_C
        logit_NC -= logit_NC.max(axis=1, keepdims=True)
        log_prob_NC = logit_NC - np.log(np.exp(logit_NC).sum(axis=1, keepdims=True))
        error_NC = weight_N1 * (np.exp(log_prob_NC) * target_NC.sum(axis=1, keepdims=True) - target_NC)
        value = -float((weight_N1 * target_NC * log_prob_NC).sum())
        return np.concatenate([[value], (error_NC.T @ x_NP).ravel(), error_NC.sum(axis=0)])


def _val_loss(head: Head, val: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    x_NP, target_NC, weight_N = val
    logit_NC = head.logits(x_NP).astype(np.float64)
    log_prob_NC = logit_NC - np.logaddexp.reduce(logit_NC, axis=1, keepdims=True)
    return -float((weight_N[:, None] * target_NC * log_prob_NC).sum()) / float(weight_N.sum())
