import io

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads.head import Head, Problem, Worker
from pipeline.learn.heads.training import train_loop


def softmax(logit_NC):
    e = np.exp(logit_NC - logit_NC.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def problem_of(num=120, num_classes=3, dim=6, l2=2.0, seed=0, val=False):
    rng = np.random.default_rng(seed)
    class_N = rng.integers(num_classes, size=num)
    x_NP = rng.normal(size=(num, dim)).astype(np.float32)
    x_NP[np.arange(num), class_N] += 1.5
    problem = Problem(x_NP, np.eye(num_classes)[class_N], rng.uniform(0.2, 3.0, num), l2)
    if val:
        rows = slice(num // 2, None)
        problem = Problem(
            x_NP[: num // 2],
            problem.target_NC[: num // 2],
            np.ones(num // 2),
            l2,
            (x_NP[rows], problem.target_NC[rows], np.ones(num - num // 2)),
        )
    return problem, class_N


LINEAR = TrainConfig(head="linear")
MLP = TrainConfig(head="mlp", hidden=16, batch_size=32, max_epochs=8, lr=1e-2)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_linear_head_is_logistic_regression(num_classes, l2):
    problem, class_N = problem_of(num_classes=num_classes, l2=l2)
    head = train_loop(problem, LINEAR, seed=0)
    # scikit-learn fits two classes with one vector; two of opposite sign and half the size carry half its penalty
    strength = 1 / l2 if num_classes > 2 else 2 / l2
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(
        problem.x_NP, class_N, sample_weight=problem.weight_N
    )
    np.testing.assert_allclose(softmax(head.logits(problem.x_NP)), theirs.predict_proba(problem.x_NP), atol=1e-3)
    if num_classes > 2:
        np.testing.assert_allclose(head.arrays["weight0"], theirs.coef_, atol=1e-3)


def test_soft_targets_are_weighted_copies():
    """A row with targets (.7, .3) is a row of each class with weights .7 and .3."""
    problem, _ = problem_of(num=60, num_classes=2)
    soft_NC = np.random.default_rng(1).dirichlet([1, 1], 60)
    soft = train_loop(Problem(problem.x_NP, soft_NC, problem.weight_N, 1.0), LINEAR, 0)
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(
        np.repeat(problem.x_NP, 2, axis=0),
        np.tile([0, 1], 60),
        sample_weight=(soft_NC * problem.weight_N[:, None]).ravel(),
    )
    np.testing.assert_allclose(softmax(soft.logits(problem.x_NP)), theirs.predict_proba(problem.x_NP), atol=1e-3)


def test_weight_zero_is_absence():
    problem, _ = problem_of()
    weight_N = problem.weight_N * (np.arange(120) < 80)
    some = train_loop(Problem(problem.x_NP, problem.target_NC, weight_N, 1.0), LINEAR, 0)
    only = train_loop(Problem(problem.x_NP[:80], problem.target_NC[:80], problem.weight_N[:80], 1.0), LINEAR, 0)
    np.testing.assert_allclose(some.arrays["weight0"], only.arrays["weight0"], atol=1e-3)


def test_the_linear_loss_falls_and_stops_before_the_last_epoch():
    head = train_loop(problem_of()[0], LINEAR, 0)
    assert len(head.loss) < LINEAR.max_epochs
    assert head.loss[0] > head.loss[-1]
    assert head.val_loss == ()


def test_logits_go_block_by_block(monkeypatch):
    head = train_loop(problem_of()[0], MLP, 0)
    x_NP = np.random.default_rng(2).normal(size=(50, 6))
    whole = head.logits(x_NP)
    monkeypatch.setattr("pipeline.vectors.row_blocks.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(head.logits(x_NP), whole, rtol=1e-6)
    assert head.logits(np.empty((0, 6))).shape == (0, 3)


def test_mlp_forward_is_two_layers_with_relu():
    rng = np.random.default_rng(0)
    arrays = {
        "weight0": rng.normal(size=(4, 6)),
        "bias0": rng.normal(size=4),
        "weight1": rng.normal(size=(3, 4)),
        "bias1": rng.normal(size=3),
    }
    x_NP = rng.normal(size=(5, 6))
    expected = np.maximum(x_NP @ arrays["weight0"].T + arrays["bias0"], 0) @ arrays["weight1"].T + arrays["bias1"]
    np.testing.assert_allclose(Head(arrays).logits(x_NP), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [LINEAR, MLP])
def test_the_seed_decides(config):
    problem, _ = problem_of()
    one, two, other = (train_loop(problem, config, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.arrays["weight0"], two.arrays["weight0"])
    assert (config.head == "mlp") == (not np.array_equal(one.arrays["weight0"], other.arrays["weight0"]))


class TestEarlyStopping:
    CONFIG = TrainConfig(head="mlp", hidden=64, dropout=0.0, batch_size=16, lr=0.03, patience=4, max_epochs=200)

    def overfitting(self):
        """Sixty rows of noise with random labels: learning them by heart hurts the validation loss."""
        rng = np.random.default_rng(0)
        target_NC = np.eye(2)[rng.integers(2, size=60)]
        x_NP = rng.normal(size=(60, 10)).astype(np.float32)
        val = (rng.normal(size=(60, 10)).astype(np.float32), np.eye(2)[rng.integers(2, size=60)], np.ones(60))
        return Problem(x_NP, target_NC, np.ones(60), 1e-3, val)

    def test_stops_and_keeps_the_best(self):
        problem = self.overfitting()
        head = train_loop(problem, self.CONFIG, 0)
        best = int(np.argmin(head.val_loss))
        assert len(head.val_loss) == best + 1 + self.CONFIG.patience < 200
        x_NP, target_NC, _ = problem.val
        kept = -(target_NC * np.log(softmax(head.logits(x_NP)))).sum(1).mean()
        assert kept == pytest.approx(min(head.val_loss), rel=1e-4)
        assert kept < head.val_loss[-1] - 0.01

    def test_the_training_loss_goes_on_falling_meanwhile(self):
        head = train_loop(self.overfitting(), self.CONFIG, 0)
        assert head.loss[-1] < head.loss[0]


@pytest.mark.parametrize("config", [LINEAR, MLP])
def test_a_loss_that_is_not_a_number_is_an_error(config):
    problem, _ = problem_of()
    problem.x_NP[3, 2] = np.nan
    with pytest.raises(FloatingPointError, match=r"the training loss is nan in (epoch|iteration) 0"):
        train_loop(problem, config, 0)


class StopHereError(Exception):
    pass


def saved_after(problem, config, num_epochs):
    """State after some epochs, through the same file as Ray Train's checkpoints."""
    saved = {}

    def report(epoch, loss, state):
        stream = io.BytesIO()
        torch.save(state, stream)
        saved["bytes"] = stream.getvalue()
        if epoch + 1 == num_epochs:
            raise StopHereError

    with pytest.raises(StopHereError):
        train_loop(problem, config, 0, Worker(report=report))
    return torch.load(io.BytesIO(saved["bytes"]), weights_only=True)


def test_many_rows_are_a_few_at_a_time(monkeypatch):
    problem, _ = problem_of()
    whole = train_loop(problem, LINEAR, 0)
    monkeypatch.setattr("pipeline.vectors.row_blocks.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(train_loop(problem, LINEAR, 0).arrays["weight0"], whole.arrays["weight0"], atol=1e-5)


@pytest.mark.parametrize("num_epochs", [1, 5, 8])
def test_an_mlp_resumes_with_its_dropout_its_order_and_its_best(num_epochs):
    problem, _ = problem_of(val=True)
    straight = train_loop(problem, MLP, 0)
    resumed = train_loop(problem, MLP, 0, Worker(state=saved_after(problem, MLP, num_epochs)))
    np.testing.assert_array_equal(resumed.val_loss, straight.val_loss)
    for name, array in straight.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array)


def test_a_fit_that_had_stopped_early_is_not_trained_further():
    problem, config = TestEarlyStopping().overfitting(), TestEarlyStopping.CONFIG
    straight = train_loop(problem, config, 0)
    resumed = train_loop(problem, config, 0, Worker(state=saved_after(problem, config, len(straight.loss))))
    np.testing.assert_array_equal(resumed.val_loss, straight.val_loss)
    np.testing.assert_array_equal(resumed.arrays["weight1"], straight.arrays["weight1"])


@pytest.mark.parametrize("size", [2, 3])
def test_workers_add_up_to_one(size):
    """Threads that meet at every sum stand for the processes of Ray Train."""
    import threading

    problem, _ = problem_of(num=101)
    barrier, shared, heads = threading.Barrier(size), {}, {}

    def worker(rank):
        def add_up(tensor):
            shared[rank] = tensor.clone()
            barrier.wait(timeout=30)
            total = sum(shared[r] for r in range(size))
            barrier.wait(timeout=30)
            return tensor.copy_(total)

        heads[rank] = train_loop(problem, LINEAR, 0, Worker(rank, size, add_up))

    threads = [threading.Thread(target=worker, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = train_loop(problem, LINEAR, 0)
    for rank in range(size):
        np.testing.assert_allclose(heads[rank].arrays["weight0"], alone.arrays["weight0"], atol=1e-3)
        np.testing.assert_allclose(heads[rank].loss[-1], alone.loss[-1], rtol=1e-4)
