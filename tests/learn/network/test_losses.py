import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional

from pipeline.learn.network import losses


def some(num=40, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logit_NC = torch.from_numpy(rng.normal(size=(num, num_classes)) * 3)
    return logit_NC, rng.dirichlet(np.ones(num_classes), num), rng.integers(num_classes, size=num)


def test_soft_targets_as_torch_computes_them():
    logit_NC, soft_NC, _ = some()
    target_NC = torch.from_numpy(soft_NC)
    found_N = losses.cross_entropy(logit_NC, target_NC)
    torch.testing.assert_close(found_N, functional.cross_entropy(logit_NC, target_NC, reduction="none"))
    assert found_N.shape == (40,)


def test_hard_targets_as_scikit_learn_computes_them():
    logit_NC, _, class_N = some()
    found_N = losses.cross_entropy(logit_NC, torch.eye(3, dtype=torch.float64)[class_N])
    assert float(found_N.mean()) == pytest.approx(log_loss(class_N, logit_NC.softmax(1).numpy()))


def test_focal_loss_of_hard_targets_is_that_of_the_paper():
    logit_NC, _, class_N = some()
    p_N = logit_NC.softmax(1)[torch.arange(40), class_N]
    found_N = losses.cross_entropy(logit_NC, torch.eye(3, dtype=torch.float64)[class_N], focal_gamma=2.0)
    torch.testing.assert_close(found_N, -((1 - p_N) ** 2) * p_N.log())


def test_focal_loss_at_gamma_zero_is_cross_entropy_and_less_elsewhere():
    logit_NC, soft_NC, _ = some()
    target_NC = torch.from_numpy(soft_NC)
    plain_N = losses.cross_entropy(logit_NC, target_NC)
    torch.testing.assert_close(losses.cross_entropy(logit_NC, target_NC, focal_gamma=0.0), plain_N)
    assert (losses.cross_entropy(logit_NC, target_NC, focal_gamma=1.0) < plain_N).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sure_answers_give_finite_losses_and_gradients(gamma):
    logit_NC = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
    loss_N = losses.cross_entropy(logit_NC, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), gamma)
    loss_N.sum().backward()
    assert torch.isfinite(loss_N).all() and torch.isfinite(logit_NC.grad).all()
    torch.testing.assert_close(loss_N.detach(), torch.tensor([0.0, 160.0]))


def test_smoothing_spreads_a_share_evenly():
    np.testing.assert_allclose(losses.smoothed(np.array([[1.0, 0.0, 0.0, 0.0]]), 0.2), [[0.85, 0.05, 0.05, 0.05]])
    _, soft_NC, _ = some()
    np.testing.assert_array_equal(losses.smoothed(soft_NC, 0.0), soft_NC)
    np.testing.assert_allclose(losses.smoothed(soft_NC, 0.3).sum(1), 1.0)


def test_smoothing_is_that_of_torch():
    logit_NC, _, class_N = some()
    target_NC = torch.from_numpy(losses.smoothed(np.eye(3)[class_N], 0.1))
    expected_N = functional.cross_entropy(logit_NC, torch.from_numpy(class_N), label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(losses.cross_entropy(logit_NC, target_NC), expected_N)


def test_balanced_classes_have_the_same_mass():
    _, soft_NC, class_N = some()
    weight_N = np.random.default_rng(1).uniform(0.1, 2.0, 40)
    for target_NC in (np.eye(3)[class_N], np.eye(3)[np.minimum(class_N, 1)]):
        found_N = losses.balanced(target_NC, weight_N)
        mass_C = (target_NC * found_N[:, None]).sum(0)
        np.testing.assert_allclose(mass_C[mass_C > 0], weight_N.sum() / (mass_C > 0).sum())
    assert losses.balanced(soft_NC, weight_N).sum() == pytest.approx(weight_N.sum())


def test_balanced_weights_are_those_of_scikit_learn():
    _, _, class_N = some()
    expected_N = compute_sample_weight("balanced", class_N)
    np.testing.assert_allclose(losses.balanced(np.eye(3)[class_N], np.ones(40)), expected_N)
