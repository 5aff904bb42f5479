"""The parts of the reference bench: the set, its draws, the small ConvNet, heads, figures."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embeddings.activations import Early
from embeddings.scan_cache import ScanCache
from pipeline.baselines import heads, networks, published, reconstruction, scoring
from pipeline.baselines.networks import Fit, Plain
from pipeline.baselines.scoring import Scored
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.learning import NetworkConfig, TrainConfig
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.options.vectors import AugmentConfig
from pipeline.pool.sources import open_pool
from tests.support.known_set import two_pools

SIDE = 32
STILL = AugmentConfig(
    crop=0.0, rotate_degrees=0.0, shift=0.0, stretch=0.0, gamma=0.0, window=0.0, level=0.0, noise=0.0, flip=False
)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    return two_pools(tmp_path_factory.mktemp("pools"))


def test_the_set_has_three_classes_and_patients_of_both_origins(pools, tmp_path):
    table = open_pool(PoolConfig(uri=str(reconstruction.write_set(*map(str, pools), tmp_path))), tmp_path).scans
    assert set(table["label"].to_pylist()) == set(reconstruction.FINDINGS)
    by_label = {(row["label"], row["source"], row["population"]) for row in table.to_pylist()}
    assert by_label == {
        ("normal", "kermany", "pediatric"),
        ("viral_pneumonia", "kermany", "pediatric"),
        ("covid", "collection", None),
    }
    assert all(Path(uri).is_file() for uri in table["uri"].to_pylist())
    patients = {row["label"]: row["patient_id"] for row in table.to_pylist()}
    assert patients["covid"].startswith("covid/P")
    assert patients["normal"].startswith("kermany/IM-")
    assert patients["viral_pneumonia"].startswith("kermany/person")
    assert len(patients["viral_pneumonia"].split("_")) == 2  # the patient, not the scan's own number


def test_a_folder_of_kermany_is_read_as_it_was_published(tmp_path, pools):
    names = sorted(path.name for path in pools[1].parent.iterdir() if path.suffix != ".csv")
    taken, sealed = names[:10] + names[-10:], names[10:20]  # normal scans come first, viral ones last
    for split, some in (("train", taken), ("test", sealed)):
        for name in some:
            to = tmp_path / "chest_xray" / split / ("NORMAL" if name.startswith("IM") else "PNEUMONIA") / name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes((pools[1].parent / name).read_bytes())
    bacterial = tmp_path / "chest_xray" / "train" / "PNEUMONIA" / "person7_bacteria_3.jpeg"
    bacterial.parent.mkdir(parents=True, exist_ok=True)
    bacterial.write_bytes(b"")
    found = open_pool(
        PoolConfig(uri=str(reconstruction.write_set(str(pools[0]), str(tmp_path / "chest_xray"), tmp_path / "set"))),
        tmp_path,
    ).scans
    labels = Counter(row["label"] for row in found.to_pylist() if row["label"] != "covid")
    assert labels.total() == 20  # the test split and bacterial pneumonia are not part of it
    assert labels == {"normal": 10, "viral_pneumonia": 10}


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("label,patient_id", "sick,p1", "no scan of this pool is labelled covid"),
        ("label", "covid", "the patients of 1 of 1 scans are not known"),
    ],
)
def test_a_covid_pool_that_does_not_do_is_refused(pools, tmp_path, columns, row, message):
    manifest = tmp_path / "bad.csv"
    manifest.write_text(f"image_path,{columns}\na.png,{row}\n", "utf-8")
    with pytest.raises(InputError, match=message) as error:
        reconstruction.write_set(str(manifest), str(pools[1]), tmp_path)
    assert "--covid" in str(error.value)


def test_a_kermany_pool_without_its_scans_is_refused(pools, tmp_path):
    with pytest.raises(InputError, match="no normal and no viral scan"):
        reconstruction.write_set(str(pools[0]), str(pools[0]), tmp_path)


def groups_of(sizes, classes):
    """Class and group of each scan: group g has `sizes[g]` scans of class `classes[g]`."""
    return np.repeat(classes, sizes), np.repeat(np.arange(len(sizes)), sizes)


def test_draws_cut_no_group_and_have_exactly_the_test_scans_asked_for():
    rng = np.random.default_rng(0)
    class_N, group_N = groups_of(rng.integers(1, 5, 300), rng.integers(0, 3, 300))
    tests = []
    for seed in range(20):
        draw = reconstruction.draw(class_N, group_N, 40, 0.2, np.random.default_rng(seed))
        parts = [draw.train, draw.val, draw.test]
        assert sorted(np.concatenate(parts)) == list(range(len(class_N)))
        assert all(not set(group_N[parts[i]]) & set(group_N[parts[j]]) for i in range(3) for j in range(i))
        assert np.bincount(class_N[draw.test]).tolist() == [40, 40, 40]
        rest = np.bincount(class_N, minlength=3) - 40
        assert np.abs(np.bincount(class_N[draw.val], minlength=3) - 0.2 * rest).max() <= 1.0
        tests.append(tuple(draw.test))
    assert len(set(tests)) == 20


def test_a_group_of_two_classes_stays_whole():
    class_N = np.array([0, 1] * 30)
    group_N = np.repeat(np.arange(30), 2)
    draw = reconstruction.draw(class_N, group_N, 7, 0.1, np.random.default_rng(1))
    assert len(set(group_N[draw.test])) == 7
    assert not set(group_N[draw.test]) & set(group_N[np.concatenate([draw.train, draw.val])])


def test_another_order_is_tried_where_the_first_does_not_come_out_even():
    class_N, group_N = groups_of([3, 2, 2], [0, 0, 0])  # four scans are the two pairs, never the three first
    for seed in range(10):
        rows = reconstruction.taken(class_N, group_N, np.array([4]), np.random.default_rng(seed))
        assert rows.tolist() == [3, 4, 5, 6]


def test_too_few_scans_are_told_in_numbers():
    class_N, group_N = groups_of([5, 5, 1, 1, 1], [0, 0, 1, 1, 1])
    with pytest.raises(InputError, match=r"\[3, 3\] of each class are wanted.*\[0, 3\] of \[10, 3\]"):
        reconstruction.taken(class_N, group_N, np.array([3, 3]), np.random.default_rng(0))


def lesson(tmp_path, class_N, pixel_NSS, **options):
    """A fit of the ConvNet on these pixels: a fifth to stop by, a fifth to test."""
    sha = tuple(f"{i:064x}" for i in range(len(class_N)))
    early = Early(None, 0, SIDE, 1, STILL)
    ScanCache(tmp_path, f"squash-bilinear-grey01-v2/{SIDE}").write(sha, pixel_NSS[:, None, None])
    one_hot = np.eye(class_N.max() + 1)[class_N]
    train, val, test = (np.flatnonzero(np.isin(np.arange(len(class_N)) % 5, part)) for part in ((0, 1, 2), (3,), (4,)))
    config = NetworkConfig(**({"epochs": 6, "lr": 3e-3, "batch_size": 16, "augment": STILL, "patience": 6} | options))
    return Fit(
        Plain(one_hot.shape[1]),
        early,
        tmp_path,
        sha,
        train,
        one_hot[train],
        (val, one_hot[val]),
        test,
        config,
        0,
        False,
    )


def blobs(class_N, rng, contrast=90.0):
    """Class c has a bright quarter at place c, in noise."""
    pixel_NSS = rng.normal(100.0, 25.0, (len(class_N), SIDE, SIDE))
    half = SIDE // 2
    for i, c in enumerate(class_N):
        down, across = divmod(int(c), 2)
        pixel_NSS[i, down * half : (down + 1) * half, across * half : (across + 1) * half] += contrast
    return pixel_NSS.clip(0, 255).astype(np.uint8)


def test_the_conv_net_learns_what_can_be_learnt(tmp_path):
    rng = np.random.default_rng(0)
    class_N = rng.integers(0, 3, 200)
    job = lesson(tmp_path, class_N, blobs(class_N, rng))
    logit_TC, curves, _ = networks.fit(job)
    assert (logit_TC.argmax(1) == class_N[job.test]).mean() > 0.95
    assert curves.val[-1] < curves.val[0]


def test_the_conv_net_finds_nothing_in_noise(tmp_path):
    rng = np.random.default_rng(1)
    class_N = rng.integers(0, 3, 300)
    job = lesson(tmp_path, class_N, blobs(class_N, rng, contrast=0.0))
    logit_TC, _, _ = networks.fit(job)
    assert (logit_TC.argmax(1) == class_N[job.test]).mean() < 0.6


def test_class_weights_find_the_rare_class(tmp_path):
    rng = np.random.default_rng(2)
    class_N = (rng.random(400) < 0.08).astype(np.int64)
    pixel_NSS = blobs(class_N, rng, contrast=8.0)
    found = {}
    for balance in ("none", "weights"):
        job = lesson(tmp_path, class_N, pixel_NSS, balance=balance, epochs=3, lr=1e-3)
        logit_TC, _, _ = networks.fit(job)
        found[balance] = (logit_TC.argmax(1) == 1)[class_N[job.test] == 1].mean()
    assert found["weights"] > found["none"] + 0.3


def test_early_stopping_keeps_the_best_state(tmp_path):
    rng = np.random.default_rng(3)
    class_N = rng.integers(0, 2, 120)
    noisy = lesson(tmp_path, class_N, blobs(class_N, rng, contrast=6.0), epochs=30, lr=5e-3, patience=3)
    _, curves, _ = networks.fit(noisy)
    best = int(np.argmin(curves.val))
    assert len(curves.val) < 30  # it stopped
    assert len(curves.val) == best + 1 + 3
    on_val, _, _ = networks.fit(replace(noisy, test=noisy.val[0]))
    target_VC = noisy.val[1]
    log_prob = on_val - np.log(np.exp(on_val).sum(1, keepdims=True))
    weight_V = (target_VC / target_VC.sum(0)).sum(1)
    loss = float((-(target_VC * log_prob).sum(1) * weight_V).sum() / weight_V.sum())
    assert loss == pytest.approx(curves.val[best], abs=1e-4)


def test_the_same_seed_gives_the_same_network(tmp_path):
    rng = np.random.default_rng(4)
    class_N = rng.integers(0, 2, 60)
    job = lesson(tmp_path, class_N, blobs(class_N, rng), epochs=2)
    first, again, other = (networks.fit(j)[0] for j in (job, job, replace(job, seed=1)))
    assert (first == again).all()
    assert not np.allclose(first, other)


def test_a_loss_that_is_not_finite_is_an_error_with_a_way_out(tmp_path):
    rng = np.random.default_rng(5)
    class_N = rng.integers(0, 2, 60)
    job = lesson(tmp_path, class_N, blobs(class_N, rng))
    broken = replace(job, target_LC=np.full_like(job.target_LC, np.nan))
    with pytest.raises(InputError, match=r"the loss is nan.*Choose a smaller one"):
        networks.fit(broken)


def test_the_frozen_head_weighs_rare_classes_alike():
    rng = np.random.default_rng(6)
    class_N = np.repeat([0, 1], [380, 20])
    emb_ND = rng.normal(0.0, 1.0, (400, 24))
    emb_ND[:, 0] += 1.2 * class_N
    order = rng.permutation(400)
    train, test = order[:300], order[300:]
    prob_TC = heads.frozen(emb_ND, class_N, train, test, TrainConfig())
    assert prob_TC.sum(1) == pytest.approx(np.ones(100))
    called = (prob_TC.argmax(1) == 1).mean()
    assert 0.1 < called < 0.6  # unweighted it would name the rare class almost never


def test_facts_of_the_file_tell_what_they_betray_and_nothing_else():
    rng = np.random.default_rng(7)
    class_N = rng.integers(0, 2, 200)
    told = np.stack([np.where(class_N == 1, 300.0, 224.0), rng.normal(size=200)], 1)
    dumb = rng.normal(size=(200, 2))
    train, test = np.arange(120), np.arange(120, 200)
    right = [(heads.facts_alone(x, class_N, train, test).argmax(1) == class_N[test]).mean() for x in (told, dumb)]
    assert right[0] == 1.0
    assert right[1] < 0.7


def scored(rng, num=60, groups=None, right=0.9):
    class_T = np.arange(num) % 3
    prob_TC = np.full((num, 3), 0.2)
    answer = np.where(rng.random(num) < right, class_T, (class_T + 1) % 3)
    prob_TC[np.arange(num), answer] = 0.6
    return Scored(prob_TC, class_T, list(range(num)) if groups is None else groups)


def test_figures_are_the_mean_of_the_draws():
    rng = np.random.default_rng(8)
    draws = [scored(rng) for _ in range(4)]
    found = scoring.figures(draws, reconstruction.FINDINGS, np.random.default_rng(0))
    each = [float((d.prob_TC.argmax(1) == d.class_T).mean()) for d in draws]
    assert found["accuracy"]["draws"] == pytest.approx(each)
    assert found["accuracy"]["value"] == pytest.approx(np.mean(each))
    assert found["accuracy"]["sd"] == pytest.approx(np.std(each, ddof=1))
    low, high = found["accuracy"]["ci95"]
    assert low < found["accuracy"]["value"] < high
    covid = np.concatenate([d.prob_TC.argmax(1)[d.class_T == 2] == 2 for d in draws])
    assert found["sensitivity_covid"]["value"] == pytest.approx(covid.mean())
    assert np.sum(found["confusion"]) == found["num_tests"] == 240
    assert found["num_groups"] == 60


def test_a_patient_seen_in_every_draw_does_not_count_as_many():
    """Same answers in every draw: four draws of the same patients know no more than one."""
    one = scored(np.random.default_rng(9))
    width = {}
    for name, draws in (
        ("one", [one]),
        ("same patients", [one] * 4),
        ("others", [Scored(one.prob_TC, one.class_T, [f"{k}-{i}" for i in range(60)]) for k in range(4)]),
    ):
        found = scoring.figures(draws, reconstruction.FINDINGS, np.random.default_rng(0))
        width[name] = np.ptp(found["accuracy"]["ci95"])
    assert width["same patients"] == pytest.approx(width["one"], rel=0.15)
    assert width["others"] < 0.7 * width["one"]


def test_published_figures_say_what_they_were_measured_on_and_how_well_they_are_known():
    for figure in (*published.THREE_CLASSES, *published.SMALL):
        assert figure.measured_on
        assert figure.standing
        assert 0.0 < figure.accuracy <= 1.0
