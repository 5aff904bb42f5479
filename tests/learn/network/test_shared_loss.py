"""The training loop with several questions at once: what each of them is taught, and what is masked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.learn.heads.head import Worker
from pipeline.learn.lesson import Lesson, StoppingSet
from tests.learn.network.test_training_loop import STILL, close, config, learn_network, recorded, rows_of, same

NUM, NUM_QUESTIONS = 24, 3
SURE_QC = np.full((NUM_QUESTIONS, 2), 0.9)
WAYS = {
    "plain": {},
    "weights": {"balance": "weights", "focal_gamma": 2.0, "label_smoothing": 0.1},
    "sampling": {"balance": "sampling"},
    "mixup": {"mixup": 1.0, "ema": 0.9},
    "consistency": {"consistency": 2.0},
}


class Net(nn.Module):
    """Channels -> a hidden layer that all questions share -> logits side by side."""

    def __init__(self, questions=range(NUM_QUESTIONS)):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2 * NUM_QUESTIONS)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
        rows = [row for question in questions for row in (2 * question, 2 * question + 1)]
        self.head.weight.data, self.head.bias.data = self.head.weight.data[rows], self.head.bias.data[rows]

    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())


@pytest.fixture
def rows(tmp_path):
    act = np.random.default_rng(0).normal(size=(NUM, 2, 6, 1, 1))
    return rows_of(tmp_path / "act", act.astype(np.float16))


@pytest.fixture
def lesson(rows):
    """Soft targets, every answer known."""
    rng = np.random.default_rng(3)
    present = rng.random((NUM, NUM_QUESTIONS))
    weight, is_open = rng.uniform(0.5, 1.5, (NUM, NUM_QUESTIONS)), rng.random((NUM, NUM_QUESTIONS)) < 0.4
    return Lesson(rows, np.stack([1 - present, present], axis=2), weight, is_open)


def of_question(lesson, question):
    """A question's part of a lesson, as its own network would learn it."""
    return Lesson(lesson.scans, lesson.target_LC[:, question], lesson.weight_L[:, question], lesson.open_L[:, question])


def learn(lesson, options, build=Net, seed=0, sure_C=SURE_QC):
    return learn_network(build, lesson, options, seed, sure_C=sure_C)


@pytest.mark.parametrize("way", ["plain", "weights", "mixup", "consistency"])
def test_the_loss_is_the_mean_of_those_of_the_questions_where_all_is_known(way, lesson):
    options = config(**WAYS[way] | {"lr": STILL})
    _, together = learn(lesson, options)
    alone = [
        learn(of_question(lesson, q), options, lambda q=q: Net([q]), sure_C=SURE_QC[q])[1].loss
        for q in range(NUM_QUESTIONS)
    ]
    np.testing.assert_allclose(together.loss, np.mean(alone, axis=0), rtol=1e-5)


def test_scans_drawn_for_all_questions_weigh_as_if_drawn_for_each(lesson):
    """Drawn by the mean of what the questions want; on average the loss is that of scans drawn for each of them."""
    drawn = learn(lesson, config(balance="sampling", lr=STILL, epochs=400))[1].loss
    alone = [
        learn(of_question(lesson, q), config(balance="weights", lr=STILL, epochs=20), lambda q=q: Net([q]))[1].loss
        for q in range(NUM_QUESTIONS)
    ]
    assert np.mean(drawn) == pytest.approx(np.mean(alone), rel=0.03)
    assert np.std(drawn) > 1e-3  # it did draw


@pytest.mark.parametrize("way", WAYS)
def test_one_question_learns_as_if_it_were_alone(way, lesson):
    own = of_question(lesson, 1)
    alone = learn(own, config(**WAYS[way]), lambda: Net([1]), sure_C=SURE_QC[1])
    shared = learn(own.of_questions(), config(**WAYS[way]), lambda: Net([1]), sure_C=SURE_QC[1:2])
    same(shared[0], alone[0])
    assert shared[1] == alone[1]


@pytest.mark.parametrize("way", WAYS)
def test_what_an_unknown_answer_would_be_changes_nothing(way, lesson):
    weight = np.where(np.random.default_rng(5).random((NUM, NUM_QUESTIONS)) < 0.4, 0.0, lesson.weight_L)
    assert (weight == 0.0).any(0).all()
    masked = replace(lesson, weight_L=weight, open_L=lesson.open_L & (weight > 0.0))
    otherwise = np.where(weight[..., None] == 0.0, np.array([1.0, 0.0]), lesson.target_LC)
    one, other = (
        learn(replace(masked, target_LC=target), config(**WAYS[way])) for target in (lesson.target_LC, otherwise)
    )
    same(one[0], other[0])
    assert one[1] == other[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_question_nothing_is_known_of_leaves_the_others_as_they_were(way, lesson):
    """Its own logits move with the weight decay alone."""
    weight, is_open = lesson.weight_L.copy(), lesson.open_L.copy()
    weight[:, 2], is_open[:, 2] = 0.0, False
    still = {"weight_decay": 0.0}
    masked = learn(replace(lesson, weight_L=weight, open_L=is_open), config(**WAYS[way] | still))
    two = Lesson(lesson.scans, lesson.target_LC[:, :2], weight[:, :2], is_open[:, :2])
    without = learn(two, config(**WAYS[way] | still), lambda: Net([0, 1]), sure_C=SURE_QC[:2])
    unmoved = Net().state_dict()["head.weight"].numpy()[4:]
    np.testing.assert_array_equal(masked[0]["head.weight"][4:], unmoved)
    cut = {name: array[:4] if name.startswith("head") else array for name, array in masked[0].items()}
    close(cut, without[0])
    np.testing.assert_allclose(masked[1].loss, without[1].loss, rtol=1e-5)


def test_every_known_answer_counts_alike(lesson, tmp_path):
    """A question that is known of four scans moves the shared layer as four scans do, not as all do."""
    act = np.repeat(np.random.default_rng(0).normal(size=(NUM, 1, 6, 1, 1)), 2, axis=1).astype(np.float16)
    weight = np.ones((NUM, NUM_QUESTIONS))
    weight[4:, 1] = 0.0
    nothing_open = np.zeros(weight.shape, bool)
    known = replace(lesson, scans=rows_of(tmp_path / "same", act), weight_L=weight, open_L=nothing_open)
    _, curves = learn(known, config(lr=STILL, epochs=1, batch_size=NUM))
    with torch.no_grad():
        logit = Net()(torch.from_numpy(act[:, 0].astype(np.float32))).unflatten(1, (NUM_QUESTIONS, 2)).double()
    loss_LQ = -(torch.from_numpy(known.target_LC) * logit.log_softmax(-1)).sum(-1).numpy()
    assert curves.loss[0] == pytest.approx(loss_LQ[weight > 0.0].mean(), rel=1e-5)


def test_it_stops_by_the_answers_that_are_known(lesson):
    stop_rows = np.arange(8)
    target, weight = lesson.target_LC[:8], np.ones((8, NUM_QUESTIONS))
    weight[:4, 0] = 0.0
    otherwise = np.where(weight[..., None] == 0.0, np.array([1.0, 0.0]), target)
    losses = [
        learn(
            replace(lesson, stop=StoppingSet(lesson.scans.chosen(stop_rows), of, weight)), config(patience=2, epochs=5)
        )[1].val
        for of in (target, otherwise)
    ]
    assert losses[0] == losses[1] and len(losses[0]) >= 3


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_training_of_several_ends_bit_for_bit_as_if_nothing_had_happened(way, lesson):
    arrays, curves, states = recorded(lesson, config(**WAYS[way]), build=Net, sure_C=SURE_QC)
    resumed, its_curves = learn_network(
        Net, lesson, config(**WAYS[way]), 0, sure_C=SURE_QC, worker=Worker(state=states[1])
    )
    same(resumed, arrays)
    assert its_curves == curves
