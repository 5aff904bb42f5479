"""Agreement of consecutive rounds: on scans nobody has labelled, beyond chance, and never by a roll-back."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.options.learning import StopConfig
from pipeline.contracts.tables import PREDICTIONS
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.stopping import stability

IDS = [f"{i:016x}" for i in range(40)]
OPTIONS = StopConfig(num_comparisons=2, agreement=0.9)


def save(folder, calls, ids=IDS):
    columns = {"image_id": ids, "split": ["train"] * len(ids), "round": [1] * len(ids), "predicted": calls}
    folder.mkdir()
    PREDICTIONS.write(folder, pa.table(columns, schema=PREDICTIONS.schema))
    return folder


def calls(num_sick, num=40):
    return ["sick"] * num_sick + ["normal"] * (num - num_sick)


def measure(before, folder, labelled=(), earlier=(), rolled_back=False, options=OPTIONS, scans=IDS):
    return stability.measure(
        before, folder, ScanRows.of(scans), labelled, rolled_back=rolled_back, earlier=earlier, options=options
    )


def test_kappa_is_that_of_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    first_N, second_N = rng.integers(3, size=(2, 200)).astype(str)
    second_N[:120] = first_N[:120]
    assert stability.cohen_kappa(first_N, second_N) == pytest.approx(cohen_kappa_score(first_N, second_N))


def test_kappa_of_one_call_for_all_says_nothing():
    same_N = np.array(["normal"] * 20)
    assert stability.cohen_kappa(same_N, same_N) is None
    assert stability.cohen_kappa(same_N, np.array(["normal"] * 19 + ["sick"])) == pytest.approx(0.0)


def test_labelled_scans_are_not_compared(tmp_path):
    before, now = save(tmp_path / "01", calls(20)), save(tmp_path / "02", calls(18))
    assert measure(before, now).kappa == pytest.approx(0.9)
    changed = IDS[18:20]
    unlabelled = measure(before, now, labelled=changed)
    assert (unlabelled.kappa, unlabelled.num_scans) == (1.0, 38)


def test_scans_that_one_round_did_not_know_are_left_out(tmp_path):
    before, now = save(tmp_path / "01", calls(20, 30), IDS[:30]), save(tmp_path / "02", calls(20))
    compared = measure(before, now)
    assert (compared.kappa, compared.num_scans) == (1.0, 30)


def test_stable_needs_every_one_of_the_last_comparisons(tmp_path):
    before, now = save(tmp_path / "01", calls(20)), save(tmp_path / "02", calls(20))
    assert not measure(before, now).is_stable
    assert not measure(before, now, earlier=[None]).is_stable
    assert measure(before, now, earlier=[0.3, 0.85]).is_stable  # the mean of the last two is .925
    assert not measure(before, now, earlier=[1.0, 0.75]).is_stable


def test_a_round_that_was_rolled_back_proves_nothing(tmp_path):
    before, now = save(tmp_path / "01", calls(20)), save(tmp_path / "02", calls(20))
    rolled = measure(before, now, earlier=[1.0, 1.0], rolled_back=True)
    assert (rolled.kappa, rolled.mean, rolled.is_stable, rolled.why) == (None, None, False, stability.ROLLED_BACK)


def test_why_there_is_nothing_to_compare(tmp_path):
    before, now = save(tmp_path / "01", calls(0)), save(tmp_path / "02", calls(0))
    assert measure(tmp_path / "00", before).why == stability.FIRST
    assert measure(before, now).why == stability.ONE_CLASS
    assert measure(before, now, labelled=IDS[5:]).why == stability.FEW


def test_the_stop_set_is_the_same_whatever_the_order():
    pool = ScanRows.of(IDS[::-1])
    assert stability.stop_set(pool, 12).image_id.to_pylist() == IDS[:12]
    assert len(stability.stop_set(pool, StopConfig().num_scans)) == len(IDS)
