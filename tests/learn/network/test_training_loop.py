"""The training loop on toys: activations of one channel a scan show which scan, view and mixture a network is fed."""

import copy
import io
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from embeddings.scan_cache import ScanCache
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.learn.heads.head import Worker
from pipeline.learn.lesson import Lesson, StoppingSet
from pipeline.learn.network import losses
from pipeline.learn.network import training_loop as module
from pipeline.learn.network.design import put
from pipeline.learn.network.training_loop import logits_of

NUM, NUM_CLASSES = 21, 3
STILL = 1e-12  # a learning rate at which nothing moves
SURE_C = np.full(NUM_CLASSES, 0.9)


def rows_of(folder, array_NV):
    cache = ScanCache(folder, "toy")
    names = [f"scan-{i}" for i in range(len(array_NV))]
    cache.write(names, array_NV)
    return cache.rows(names)


def lesson_of(rows, class_N, **changed):
    """Everything is to be learned, with full weight."""
    num = len(class_N)
    given = {
        "scans": rows,
        "target_LC": np.eye(NUM_CLASSES)[class_N],
        "weight_L": np.ones(num),
        "open_L": np.zeros(num, bool),
    }
    return Lesson(**given | changed)


def learn_network(build, lesson, options, seed, sure_C=SURE_C, **given):
    return module.learn_network(build, lesson, options, seed, sure_C=sure_C, **given)


@pytest.fixture
def blobs(tmp_path):
    """Three classes in activations of 4 channels, two views each."""
    rng = np.random.default_rng(0)
    class_N = np.arange(60) % NUM_CLASSES
    act = rng.normal(size=(60, 2, 4, 2, 2))
    act[np.arange(60), :, class_N] += 1.5
    return rows_of(tmp_path / "blobs", act.astype(np.float16)), class_N


@pytest.fixture
def marked(tmp_path):
    """Scan i, view v: channel i is 1, channel NUM + v is 1."""
    act = np.zeros((NUM, 2, NUM + 2, 1, 1), np.float16)
    for i in range(NUM):
        for view in range(2):
            act[i, view, [i, NUM + view]] = 1.0
    class_N = np.where(np.arange(NUM) < 15, 0, np.where(np.arange(NUM) < 19, 1, 2))
    return rows_of(tmp_path / "marked", act), class_N


class Net(nn.Module):
    """A hidden layer with dropout and a batch norm: whatever a training has to carry over a resume."""

    def __init__(self, num_in=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(num_in, 8, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, NUM_CLASSES),
        )

    def forward(self, x):
        return self.layers(x)


class Spy(nn.Module):
    """Linear in the marks; writes down what it is fed."""

    def __init__(self, num_in=NUM + 2, seed=0):
        super().__init__()
        self.linear = nn.Linear(num_in, NUM_CLASSES)
        generator = torch.Generator().manual_seed(seed)
        self.linear.weight.data = 2.0 * torch.randn(NUM_CLASSES, num_in, generator=generator)
        self.linear.bias.data = torch.zeros(NUM_CLASSES)
        self.fed = []

    def forward(self, x):
        self.fed.append((x.flatten(1).clone(), torch.is_grad_enabled()))
        return self.linear(x.flatten(1))

    def marks(self):
        """All it was taught with, in order."""
        return torch.cat([x for x, teaching in self.fed if teaching])


def watch(lesson, config, seed=0, **given):
    """A spy after training at a learning rate of nothing, and the loss of each epoch."""
    spy = Spy(lesson.scans.take(np.array([0]), np.array([0])).size)
    _, curves = learn_network(lambda: spy, lesson, config.model_copy(update={"lr": STILL}), seed, **given)
    return spy, curves.loss


def config(**changed):
    return NetworkConfig(**{"epochs": 4, "lr": 0.02, "batch_size": 8, **changed})


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def close(one, other, atol=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=atol, err_msg=name)


def through_a_file(state):
    """As a checkpoint is kept: tensors and plain values alone."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def recorded(lesson, options, seed=0, build=Net, **given):
    """Result, and the state after each epoch."""
    states = []
    worker = Worker(report=lambda epoch, loss, state: states.append(through_a_file(state)))
    return *learn_network(build, lesson, options, seed, worker=worker, **given), states


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_it_learns(blobs):
    rows, class_N = blobs
    arrays, curves = learn_network(Net, lesson_of(rows, class_N), config(epochs=15), 0)
    assert len(curves.loss) == 15 and curves.val == ()
    assert curves.loss[-1] < 0.5 * curves.loss[0]
    found_NC = logits_of(Net, arrays, rows, config(), None)
    assert found_NC.dtype == np.float32 and (found_NC.argmax(1) == class_N).mean() > 0.95


def test_the_seed_decides(blobs):
    lesson = lesson_of(*blobs)
    first, again, other = (learn_network(Net, lesson, config(), seed) for seed in (1, 1, 2))
    same(first[0], again[0])
    assert first[1] == again[1] != other[1]


HARD = {
    "plain": {},
    "everything": {"ema": 0.9, "mixup": 0.4, "consistency": 1.0, "label_smoothing": 0.1, "focal_gamma": 1.0},
    "sampling": {"balance": "sampling", "accumulate": 3},
    "stopping": {"patience": 2, "epochs": 6},
}


@pytest.mark.parametrize("kind", HARD)
def test_a_resumed_training_ends_bit_for_bit_as_if_nothing_had_happened(kind, blobs):
    rows, class_N = blobs
    first = rows.chosen(np.arange(10))
    stop = StoppingSet(first, np.eye(NUM_CLASSES)[class_N[:10]], np.ones(10)) if kind == "stopping" else None
    lesson = lesson_of(rows, class_N, open_L=class_N == 2, stop=stop)
    arrays, curves, states = recorded(lesson, config(**HARD[kind]))
    assert len(states) >= 3
    for state in states:
        torch.manual_seed(99)  # another process
        resumed, its_curves = learn_network(Net, lesson, config(**HARD[kind]), 0, worker=Worker(state=state))
        same(resumed, arrays)
        assert its_curves == curves


def together(size, lesson, options):
    """The training on several threads, each with its share; their results."""
    barrier, shared, out = threading.Barrier(size), [None] * size, [None] * size
    torch.manual_seed(0)
    first = Spy(lesson.scans.take(np.array([0]), np.array([0])).size)

    def worker(rank):
        def add_up(tensor):
            shared[rank] = tensor.clone()
            barrier.wait(60)
            total = torch.stack(shared).sum(0)
            barrier.wait(60)
            return tensor.copy_(total)

        try:
            given = Worker(rank=rank, size=size, sum_=add_up)
            out[rank] = learn_network(lambda: copy.deepcopy(first), lesson, options, 0, worker=given)
        except Exception as error:  # noqa: BLE001 - handed to the test
            out[rank] = error

    threads = [threading.Thread(target=worker, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return out


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("kind", ["plain", "everything", "sampling"])
def test_several_workers_take_the_steps_of_one(size, kind, marked):
    """21 scans in batches of 4: a share of some batches is empty for the fifth worker."""
    rows, class_N = marked
    lesson = lesson_of(rows, class_N, open_L=np.arange(NUM) % 2 == 0)
    options = config(batch_size=4, **HARD[kind])
    [(alone, its_curves)] = together(1, lesson, options)
    for arrays, curves in together(size, lesson, options):
        close(arrays, alone)
        np.testing.assert_allclose(curves.loss, its_curves.loss, rtol=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 64])
def test_steps_in_parts_are_the_same_steps(parts, marked):
    lesson = lesson_of(*marked)
    one, other = (learn_network(Spy, lesson, config(accumulate=n), 0) for n in (1, parts))
    close(one[0], other[0])
    np.testing.assert_allclose(one[1].loss, other[1].loss, rtol=1e-5)


def test_every_scan_is_seen_once_an_epoch_in_another_order(marked):
    spy, _ = watch(lesson_of(*marked), config(epochs=2))
    seen = spy.marks()[:, :NUM].argmax(1).reshape(2, NUM)
    assert all(sorted(order) == list(range(NUM)) for order in seen.tolist())
    assert seen[0].tolist() != seen[1].tolist()
    assert max(len(x) for x, _ in spy.fed) <= 8


def test_the_trace_has_a_point_for_each_tenth_of_an_epoch(marked):
    lesson = lesson_of(*marked)
    for batch_size, points in ((2, 10), (8, 3)):  # 11 and 3 steps an epoch
        _, curves = learn_network(Spy, lesson, config(batch_size=batch_size), 0)
        assert len(curves.trace) == 4 * points
        epochs = np.array(curves.trace).reshape(4, points)
        np.testing.assert_allclose(epochs.mean(1), curves.loss, rtol=0.15)


def test_only_the_scans_of_the_lesson_are_seen(marked):
    rows, class_N = marked
    some = np.array([3, 17, 20])
    spy, _ = watch(lesson_of(rows.chosen(some), class_N[some]), config(epochs=3, mixup=1.0, consistency=1.0))
    assert set(torch.nonzero(torch.cat([x for x, _ in spy.fed])[:, :NUM])[:, 1].tolist()) == {3, 17, 20}


def test_without_a_sure_probability_the_network_never_answers_itself(marked):
    rows, class_N = marked
    lesson = lesson_of(rows, class_N, open_L=np.ones(NUM, bool))
    spy, loss = watch(lesson, config(epochs=2, consistency=1.0), sure_C=None)
    plain, its_loss = watch(lesson, config(epochs=2))
    assert loss == its_loss and len(spy.fed) == len(plain.fed)


def test_a_loss_that_is_not_finite_stops_and_the_last_state_was_reported(marked):
    class Breaks(Spy):
        def forward(self, x):
            return super().forward(x) * (float("nan") if len(self.fed) > 7 else 1.0)

    states = []
    worker = Worker(report=lambda epoch, loss, state: states.append((epoch, through_a_file(state))))
    with pytest.raises(FloatingPointError, match=r"the loss is nan in epoch 3; try a smaller network\.lr"):
        learn_network(Breaks, lesson_of(*marked), config(), 0, worker=worker)
    assert [epoch for epoch, _ in states] == [0, 1]
    assert all(torch.isfinite(tensor).all() for tensor in states[-1][1]["net"].values())


def test_every_worker_stops_at_a_loss_that_is_not_finite(marked):
    rows, class_N = marked
    target_NC = np.eye(NUM_CLASSES)[class_N]
    target_NC[0] = np.nan  # one scan, in the share of one worker
    found = together(2, lesson_of(rows, class_N, target_LC=target_NC), config())
    assert [type(error) for error in found] == [FloatingPointError, FloatingPointError]


# --- what each option says --------------------------------------------------------------------------------------------


def expected_loss(spy, target_NC, weight_N=None, gamma=0.0):
    """Mean loss over all that was taught, by the marks; a mixture has the mixed loss of its scans."""
    x = spy.marks()
    log_prob = spy.linear(x).detach().log_softmax(1)
    term = -((1 - log_prob.exp()) ** gamma) * log_prob
    weight_N = np.ones(NUM) if weight_N is None else weight_N
    per_scan = term @ torch.from_numpy((target_NC * weight_N[:, None]).T).float()  # (samples, NUM)
    return float((x[:, :NUM] * per_scan).sum(1).mean())


def test_the_loss_is_the_mean_cross_entropy(marked):
    rows, class_N = marked
    spy, loss = watch(lesson_of(rows, class_N), config(epochs=1))
    assert loss[0] == pytest.approx(expected_loss(spy, np.eye(NUM_CLASSES)[class_N]), rel=1e-4)


def test_focal_and_smoothed_targets_reach_the_loss(marked):
    rows, class_N = marked
    target_NC = np.eye(NUM_CLASSES)[class_N]
    spy, loss = watch(lesson_of(rows, class_N), config(epochs=1, label_smoothing=0.3, focal_gamma=2.0))
    assert loss[0] == pytest.approx(expected_loss(spy, losses.smoothed(target_NC, 0.3), gamma=2.0), rel=1e-4)


def test_weights_of_scans_count_relative_to_their_mean(marked):
    rows, class_N = marked
    weight_N = np.random.default_rng(0).uniform(0, 5, NUM)
    spy, loss = watch(lesson_of(rows, class_N, weight_L=weight_N), config(epochs=1))
    target_NC = np.eye(NUM_CLASSES)[class_N]
    assert loss[0] == pytest.approx(expected_loss(spy, target_NC, weight_N / weight_N.mean()), rel=1e-4)


def test_balancing_by_weights_makes_rare_classes_heavy(marked):
    rows, class_N = marked
    spy, loss = watch(lesson_of(rows, class_N), config(epochs=1, balance="weights"))
    weight_N = np.array([7 / 15, 7 / 4, 7 / 2])[class_N]  # 15, 4 and 2 scans: each class weighs 7
    assert loss[0] == pytest.approx(expected_loss(spy, np.eye(NUM_CLASSES)[class_N], weight_N), rel=1e-4)


def test_balancing_by_sampling_draws_every_class_as_often(marked):
    rows, class_N = marked
    spy, loss = watch(lesson_of(rows, class_N), config(epochs=60, balance="sampling"))
    drawn = class_N[spy.marks()[:, :NUM].argmax(1).numpy()]
    assert len(drawn) == 60 * NUM
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.05)
    assert np.mean(loss) == pytest.approx(expected_loss(spy, np.eye(NUM_CLASSES)[class_N]), rel=1e-4)  # unweighted


def test_mixup_mixes_two_scans_and_their_losses(marked):
    rows, class_N = marked
    spy, loss = watch(lesson_of(rows, class_N), config(epochs=1, mixup=0.5))
    x = spy.marks()
    torch.testing.assert_close(x[:, :NUM].sum(1), torch.ones(NUM))
    parts = (x[:, :NUM] > 0).sum(1)
    assert set(parts.tolist()) <= {1, 2} and (parts == 2).float().mean() > 0.5
    assert loss[0] == pytest.approx(expected_loss(spy, np.eye(NUM_CLASSES)[class_N]), rel=1e-4)


def test_views_are_drawn_from_the_cache(marked):
    spy, _ = watch(lesson_of(*marked), config(epochs=20))
    views = spy.marks()[:, NUM:]
    torch.testing.assert_close(views.sum(1), torch.ones(len(views)))
    assert 0.4 < float(views[:, 1].mean()) < 0.6


@pytest.mark.parametrize("views", [1, 2])
def test_one_cached_view_is_no_scan(views, tmp_path, monkeypatch):
    """Activations of a single view are taken as they are; only pixels are turned and cropped."""
    monkeypatch.setattr(module.augment, "views", lambda *_: pytest.fail("activations were augmented"))
    act = np.random.default_rng(0).normal(size=(9, views, 4, 2, 2)).astype(np.float16)
    learn_network(Net, lesson_of(rows_of(tmp_path, act), np.arange(9) % 3), config(epochs=1), 0)


def test_pixels_are_seen_in_a_fresh_view_each_time(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 16, 16), np.uint8)
    rows = rows_of(tmp_path, pixels)
    spy, _ = watch(lesson_of(rows.chosen(np.arange(6)), np.arange(6) % 3), config(epochs=2))
    x = spy.marks().reshape(2, 6, 16, 16)
    assert x.min() >= 0 and x.max() <= 1
    plain = torch.from_numpy(pixels[:, 0, 0].astype(np.float32) / 255)
    for view in x.reshape(12, 16, 16):
        assert min(float((view - scan).abs().mean()) for scan in plain) > 0.02
    assert len({view.numpy().tobytes() for view in x.reshape(12, 16, 16)}) == 12


def test_pixels_without_augmentation_are_the_scans(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 16, 16), np.uint8)
    nothing = dict.fromkeys(("crop", "rotate_degrees", "shift", "stretch", "gamma", "window", "level", "noise"), 0.0)
    options = config(epochs=1, augment={**nothing, "flip": False})
    spy, _ = watch(lesson_of(rows_of(tmp_path, pixels), np.arange(6) % 3), options)
    found = np.round(spy.marks().numpy() * 255).astype(np.uint8)
    assert {row.tobytes() for row in found} == {scan.tobytes() for scan in pixels}


def test_an_open_scan_is_held_to_what_the_network_surely_says_of_the_plain_view(marked):
    rows, class_N = marked
    open_N = np.arange(NUM) % 3 != 0
    target_NC = np.full((NUM, NUM_CLASSES), 1 / NUM_CLASSES)
    sure_C = np.array([0.5, 0.7, 1.01])  # class 2 is never sure enough
    lesson = lesson_of(rows, class_N, target_LC=target_NC, open_L=open_N)
    spy, loss = watch(lesson, config(epochs=1, consistency=2.5), sure_C=sure_C)
    plain = torch.zeros(NUM, NUM + 2)
    plain[torch.arange(NUM), torch.arange(NUM)] = plain[:, NUM] = 1.0
    prob_NC = spy.linear(plain).detach().softmax(1).numpy()
    answer_N = prob_NC.argmax(1)
    sure_N = open_N & (prob_NC.max(1) >= sure_C[answer_N])
    assert 3 <= sure_N.sum() < open_N.sum() and (prob_NC.max(1)[~open_N] > 0.7).any()
    assert ((answer_N == 2) & open_N & (prob_NC.max(1) > 0.7)).any()  # sure of class 2, and not believed
    wanted_NC = np.where(sure_N[:, None], np.eye(NUM_CLASSES)[answer_N], target_NC)
    assert loss[0] == pytest.approx(expected_loss(spy, wanted_NC, np.where(sure_N, 2.5, 1.0)), rel=1e-4)
    looked_at = torch.cat([x for x, teaching in spy.fed if not teaching])
    assert (looked_at[:, NUM] == 1).all()  # plain views, without gradients


def test_the_average_follows_the_weights_and_is_what_comes_out(marked):
    """One step an epoch, so that the states show every step."""
    options = config(epochs=6, batch_size=NUM, ema=0.4, lr=0.5)
    arrays, _, states = recorded(lesson_of(*marked), options, build=Spy)
    average = {name: tensor.clone() for name, tensor in Spy().state_dict().items()}
    for step, state in enumerate(states, 1):
        decay = min(0.4, (step + 1) / (step + 10))
        for name in average:
            average[name] = decay * average[name] + (1 - decay) * state["net"][name]
    close(arrays, {name: tensor.numpy() for name, tensor in average.items()})
    assert np.abs(arrays["linear.weight"] - states[-1]["net"]["linear.weight"].numpy()).max() > 0.01


def test_the_average_has_the_statistics_of_the_norms(blobs):
    arrays, _, states = recorded(lesson_of(*blobs), config(ema=0.99))
    name = "layers.1.running_mean"
    np.testing.assert_array_equal(arrays[name], states[-1]["net"][name].numpy())
    assert np.abs(arrays[name]).max() > 0.01


def stopped(marked, **changed):
    """Scans to stop by that are labelled against what is learned: the first epoch is the best."""
    rows, class_N = marked
    val_class = (class_N[:6] + 1) % NUM_CLASSES
    weight_V = np.array([1.0, 2, 3, 4, 5, 6])
    stop = StoppingSet(rows.chosen(np.arange(6)), np.eye(NUM_CLASSES)[val_class], weight_V)
    return lesson_of(rows, class_N, stop=stop), stop, config(epochs=9, lr=0.3, warmup_share=0.0, **changed)


def test_training_stops_in_time_and_keeps_the_best_epoch(marked):
    lesson, stop, options = stopped(marked, patience=2)
    arrays, curves, states = recorded(lesson, options, build=Spy)
    assert len(curves.val) == len(curves.loss) == 3
    assert curves.val[0] == min(curves.val)
    same(arrays, {name: tensor.numpy() for name, tensor in states[0]["net"].items()})
    spy = Spy()
    put(spy, arrays)
    x = torch.from_numpy(stop.scans.plain(np.arange(6))).flatten(1)
    target_VC = torch.from_numpy(stop.target_VC).float()
    loss_V = functional.cross_entropy(spy.linear(x).detach(), target_VC, reduction="none").numpy()
    assert curves.val[0] == pytest.approx(np.average(loss_V, weights=stop.weight_V), rel=1e-4)


def test_without_patience_all_epochs_run_and_the_best_is_kept(marked):
    lesson, _, options = stopped(marked, patience=0)
    arrays, curves, states = recorded(lesson, options, build=Spy)
    assert len(curves.val) == 9
    best = int(np.argmin(curves.val))
    assert best < 8
    same(arrays, {name: tensor.numpy() for name, tensor in states[best]["net"].items()})


def test_without_scans_to_stop_by_patience_means_nothing(marked):
    _, curves = learn_network(Spy, lesson_of(*marked), config(patience=1), 0)
    assert len(curves.loss) == 4 and curves.val == ()


def test_mixed_precision_learns_nearly_the_same(marked):
    lesson = lesson_of(*marked)
    exact, mixed = (learn_network(Spy, lesson, config(precision=p), 0) for p in ("fp32", "amp"))
    assert mixed[0]["linear.weight"].dtype == np.float32
    assert mixed[1].loss != exact[1].loss
    np.testing.assert_allclose(mixed[1].loss, exact[1].loss, rtol=0.05)


def test_logits_are_of_plain_views_in_the_order_of_the_scans(marked):
    rows, _ = marked
    spy = Spy()
    arrays = {name: tensor.numpy() for name, tensor in spy.state_dict().items()}
    asked = np.array([20, 0, 7, *range(15)])
    found_NC = logits_of(Spy, arrays, rows.chosen(asked), config(batch_size=4), None)
    plain = torch.zeros(len(asked), NUM + 2)
    plain[torch.arange(len(asked)), torch.from_numpy(asked)] = plain[:, NUM] = 1.0
    np.testing.assert_allclose(found_NC, spy.linear(plain).detach().numpy(), atol=1e-5)


def test_a_gpu_that_is_not_there_is_refused_before_the_network_is_built(marked, monkeypatch):
    from pipeline.contracts.errors import InputError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="a GPU is asked for"):
        learn_network(lambda: pytest.fail("built"), lesson_of(*marked), config(), 0, use_gpu=True)
