"""What the equalised probe is asked of, and when its loss is a caution."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.audit import altered_vectors, paired_probe, probes
from pipeline.audit.checks import grey_levels
from pipeline.audit.checks.grey_levels import GreyLevels
from pipeline.audit.checks.shortcuts import Shortcuts
from pipeline.audit.paired_probe import Loss
from pipeline.audit.probes import Score
from pipeline.contracts import config_file
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.support.audit_pools import many, subject


def half(i):
    return ("normal", "sick")[i % 2]


def score(auroc, within=None, share=0.0):
    return Score(auroc, [auroc - 0.05, auroc + 0.05], within, None, share, 30, 60, 60)


def grey(losses, rows, alone=0.7):
    return GreyLevels(losses, {name: score(alone) for name in losses}, rows)


def loss(before, after, interval, **given):
    return Loss(score(before, **given), score(after), before - after, interval)


@pytest.fixture
def pool(tmp_path):
    return subject(tmp_path, many(60, label=half))


class TestCheck:
    def test_a_loss_beyond_the_limit_and_chance_is_a_caution(self, pool):
        losses = {"normal": loss(0.9, 0.89, [0.0, 0.02]), "sick": loss(0.9, 0.85, [0.02, 0.08])}
        check = grey_levels.check(pool, grey(losses, (0, 1, 2, 3)))
        assert (check.id, check.severity, check.count) == ("grey-levels-predict-label", "warn", 1)
        assert (check.value, check.threshold) == (pytest.approx(0.05), pool.config.audit.warn_grey_loss)
        assert check.message == (
            "Part of what the model knows is grey level: sick is told with AUROC 0.900 (0.850 to 0.950) from the scan "
            "as it is and 0.850 (0.800 to 0.900) from the scan with its histogram equalised: a loss of 0.050 (0.020 to "
            "0.080). Grey levels alone, without a picture, tell it with 0.700 (0.650 to 0.750) (4 scans, "
            "patient-grouped)."
        )
        assert check.table.rows[1] == ("sick", 30, 0.9, 0.85, pytest.approx(0.05), 0.02, 0.08, 0.7)
        assert "splits.holdout_source" in check.fix and "opaque" in check.why

    @pytest.mark.parametrize(
        ("before", "after", "interval"),
        [(0.9, 0.88, [0.01, 0.03]), (0.9, 0.8, [-0.01, 0.2]), (0.9, 0.8, None), (0.8, 0.9, [-0.15, -0.05])],
        ids=["small", "chance", "no interval", "a gain"],
    )
    def test_less_is_told_and_does_not_warn(self, pool, before, after, interval):
        check = grey_levels.check(pool, grey({"sick": loss(before, after, interval)}, (1,)))
        assert (check.severity, check.count, check.checked) == ("ok", 0, True)
        assert check.message.startswith("sick is told with AUROC")

    @pytest.mark.parametrize(("alone", "severity"), [(0.54, "ok"), (0.56, "warn")])
    def test_a_loss_counts_only_where_grey_levels_alone_tell_the_class(self, pool, alone, severity):
        check = grey_levels.check(pool, grey({"sick": loss(0.9, 0.8, [0.05, 0.15])}, (1,), alone))
        assert (check.severity, check.value) == (severity, pytest.approx(0.1))

    def test_the_limit_is_an_option(self, tmp_path):
        lax = subject(tmp_path, many(60, label=half), **{"audit.warn_grey_loss": 0.2})
        assert grey_levels.check(lax, grey({"sick": loss(0.9, 0.75, [0.1, 0.2])}, (1,))).severity == "ok"

    def test_each_scan_is_shown_as_it_is_and_equalised(self, pool):
        losses = {name: loss(0.9, 0.8, [0.05, 0.2]) for name in ("normal", "sick")}
        evidence = grey_levels.check(pool, grey(losses, tuple(range(60)))).evidence
        assert len(evidence) == 12
        assert [row["note"] for row in evidence[:4]] == ["normal", "normal, equalised", "sick", "sick, equalised"]
        assert [row.get("alteration") for row in evidence[:2]] == [None, "equalised"]
        assert evidence[0]["image_id"] == evidence[1]["image_id"] != evidence[2]["image_id"]

    def test_within_sources_is_said(self, pool):
        inside = Score(0.95, [0.9, 0.99], 0.8, [0.7, 0.9], 1.0, 30, 60, 60)
        found = grey({"sick": Loss(inside, inside, 0.0, [-0.1, 0.1])}, (1,))
        message = grey_levels.check(pool, found).message
        assert "0.800 (0.700 to 0.900)" in message and "patient-grouped, within each source" in message

    def test_what_was_not_measured_is_not_checked(self, pool):
        check = grey_levels.check(pool, GreyLevels(why_not="no label"))
        assert (check.severity, check.checked, check.message) == ("ok", False, "Not checked: no label.")


class TestMeasure:
    """Embeddings of 8 numbers; the second half is of the middle."""

    def measure(self, monkeypatch, folder, rows, plain_ND, equalised_ND, ok_N=None, **options):
        seen = []

        def read(ctx, scans, alteration):
            places = [int(i, 16) for i in scans["image_id"].to_pylist()]
            seen.append((alteration, len(places)))
            kept = np.ones(len(places), bool) if ok_N is None else ok_N[places]
            return equalised_ND[places].astype(np.float32), kept

        monkeypatch.setattr(altered_vectors, "measure", read)
        monkeypatch.setattr(probes, "NUM_TREES", 10)
        light_RG = np.array([[one["label"] == "sick"] for one in rows], np.float32)  # told by grey alone
        asked = Shortcuts(num_scans=len(rows), rows=tuple(range(len(rows))), grey_RG=light_RG)
        return grey_levels.measure(subject(folder, rows, emb_ND=plain_ND, **options), asked), seen

    @pytest.fixture
    def vectors(self):
        """Sick scans stand apart in the middle as it is, and half as far equalised; the first half of a vector lies."""
        noise_ND = np.random.default_rng(0).normal(size=(200, 8))
        sick = np.array([half(i) == "sick" for i in range(200)], float)
        plain_ND, equalised_ND = noise_ND.copy(), noise_ND.copy()
        plain_ND[:, 5] += 3 * sick
        equalised_ND[:, 5] += 1 * sick
        equalised_ND[:, 1] += 9 * sick
        return plain_ND, equalised_ND

    def test_the_middle_alone_is_compared(self, monkeypatch, tmp_path, vectors):
        found, seen = self.measure(monkeypatch, tmp_path, many(200, label=half), *vectors)
        assert seen == [("equalised", 200)]
        told = found.losses["sick"]
        assert told.plain.auroc > 0.95 and told.altered.auroc < 0.85
        assert told.difference == pytest.approx(told.plain.fair[0] - told.altered.fair[0])
        assert 0 < told.difference_ci95[0] < told.difference < told.difference_ci95[1]
        assert found.alone["sick"].auroc == 1.0
        grey_alone, row = found.to_json()[1::2]
        assert (grey_alone["probe"], grey_alone["finding"]) == ("grey-levels", "sick")
        assert (row["probe"], row["finding"], row["auroc"]) == ("equalised", "sick", told.altered.auroc)
        assert (row["auroc_plain"], row["loss"]) == (told.plain.auroc, told.difference)

    def test_the_whole_vector_is_compared_where_no_middle_is_looked_at(self, monkeypatch, tmp_path, vectors):
        options = {"embed.features": "pooled"}
        found, _ = self.measure(monkeypatch, tmp_path, many(200, label=half), *vectors, **options)
        assert found.losses["sick"].altered.auroc > 0.99

    def test_at_most_so_many_scans_are_embedded_and_zero_asks_for_none(self, monkeypatch, tmp_path, vectors):
        rows = many(200, label=half)
        found, seen = self.measure(monkeypatch, tmp_path / "a", rows, *vectors, **{"audit.max_equalised_scans": 60})
        assert seen == [("equalised", 60)] and len(found.rows) == 60
        found, seen = self.measure(monkeypatch, tmp_path / "b", rows, *vectors, **{"audit.max_equalised_scans": 0})
        assert seen == [] and found.why_not == "audit.max_equalised_scans is 0"

    def test_scans_that_cannot_be_read_are_left_out_of_both(self, monkeypatch, tmp_path, vectors):
        plain_ND, equalised_ND = vectors
        ok_N = np.arange(200) >= 20
        equalised_ND[~ok_N] = np.nan
        found, _ = self.measure(monkeypatch, tmp_path / "a", many(200, label=half), plain_ND, equalised_ND, ok_N)
        assert found.losses["sick"].plain.num_scans == found.losses["sick"].altered.num_scans == 180
        found, _ = self.measure(
            monkeypatch, tmp_path / "b", many(200, label=half), plain_ND, equalised_ND, ok_N & False
        )
        assert found.why_not == "fewer than two classes have 8 patients with a scan to equalise"

    def test_what_the_other_probes_could_not_be_asked_is_not_asked_here(self, tmp_path):
        one = subject(tmp_path, many(20, label="normal"), emb_ND=np.ones((20, 8)))
        found = grey_levels.measure(one, Shortcuts(why_not="no label is known"))
        assert (found.why_not, found.losses, found.to_json()) == ("no label is known", {}, [])


def test_the_same_scans_twice_lose_nothing():
    rng = np.random.default_rng(1)
    x, label = rng.normal(size=(80, 4)), np.array([half(i) for i in range(80)])
    group, place = np.arange(80), np.array(["a"] * 80)
    found = paired_probe.losses(x, x, label, group, place, num_bootstrap=50, rng=np.random.default_rng(0))
    assert {name: (one.difference, one.difference_ci95) for name, one in found.items()} == {
        "normal": (0.0, [0.0, 0.0]),
        "sick": (0.0, [0.0, 0.0]),
    }
    assert not found["sick"].is_beyond_chance


def test_scans_of_one_patient_count_as_one():
    rng = np.random.default_rng(2)
    label = np.repeat([half(i) for i in range(20)], 20)
    x = rng.normal(size=(400, 3)) + 2.0 * (label == "sick")[:, None]
    worse = x + 1.5 * np.repeat(rng.normal(size=(20, 3)), 20, axis=0)  # scans of a patient lose alike
    place = np.array(["a"] * 400)

    def width(group):
        found = paired_probe.losses(x, worse, label, group, place, num_bootstrap=200, rng=np.random.default_rng(0))
        ends = found["sick"].difference_ci95
        return ends[1] - ends[0]

    assert width(np.repeat(np.arange(20), 20)) > width(np.arange(400))


def test_altered_scans_are_read_with_the_white_that_the_pool_decided(tmp_path):
    value_HW = np.random.default_rng(3).integers(0, 4096, (64, 64)).astype(np.uint16)
    Image.fromarray(value_HW).save(tmp_path / "deep.png")
    Image.fromarray((value_HW >> 4).astype(np.uint8)).save(tmp_path / "flat.png")
    given = {"preprocess.size_px": 64, "embed.store": str(tmp_path / "store"), "engine.backend": "serial"}
    ctx = StageContext(config_file.load(None, given), tmp_path, SerialEngine())
    deep, flat = tmp_path / "deep.png", tmp_path / "flat.png"
    uris = [f"{deep}#white=65535", f"{deep}#white=4095", str(flat)]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (deep, deep, flat)]
    scans = pa.table({"sha256": hashes, "uri": uris, "bit_depth": [16, 16, 8]})
    emb_ND, ok_N = altered_vectors.measure(ctx, scans, "lungs-erased")
    unit_ND = emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)
    assert ok_N.all() and unit_ND[1] @ unit_ND[2] > 0.99 > unit_ND[0] @ unit_ND[2]
