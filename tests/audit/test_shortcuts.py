"""What the probes that must not know are asked of, and what is told of the worst of them."""

import numpy as np
import pytest

from pipeline.audit import off_lung_features, off_lung_regions, probes
from pipeline.audit.checks import shortcuts
from pipeline.audit.checks.shortcuts import LUNGS_MASKED, METADATA, MODEL, POPULATION, Shortcuts
from pipeline.audit.off_lung_features import PixelFacts
from pipeline.audit.probes import Score
from tests.support.audit_pools import many, subject

HOW = {METADATA: "From size, format, border and grey levels alone", LUNGS_MASKED: "With the lungs erased sick is"}
CHECKS = ((METADATA, 0, "metadata-predicts-label"), (LUNGS_MASKED, 1, "lungs-masked-predicts-label"))


def half(i):
    return ("normal", "sick")[i % 2]


def told(auroc, lower, within=None):
    return Score(auroc, [lower, 0.99], within, None, 0.0, 30, 60, 60)


@pytest.fixture
def pool(tmp_path):
    return subject(tmp_path, many(60, label=half))


@pytest.mark.parametrize(("name", "place", "check_id"), CHECKS)
class TestCheck:
    def test_the_worst_class_is_told_beside_the_whole_scan(self, pool, name, place, check_id):
        scores = {"normal": told(0.7, 0.5), "sick": told(0.97, 0.8, 0.9)}
        model = {"normal": told(0.91, 0.85), "sick": told(0.92, 0.86)}
        check = shortcuts.check(pool, Shortcuts({MODEL: model, name: scores}, 0.8, 57))[place]
        assert (check.id, check.severity, check.count, check.value) == (check_id, "warn", 1, 0.8)
        assert check.threshold == pool.config.audit.warn_shortcut_auroc
        assert "sick is told with AUROC 0.970 (0.800 to 0.990); with the whole scan 0.920 (0.860 to 0.990)" in (
            check.message
        )
        assert "(57 scans, patient-grouped; the lower end counts). Compared within each source it is 0.900." in (
            check.message
        )
        assert check.message.startswith(HOW[name])
        assert [row["note"] for row in check.evidence] == ["sick"] * 12
        assert dict(zip(check.table.columns, check.table.rows[1], strict=True)) == {
            "class": "sick",
            "scans": 30,
            "AUROC": 0.97,
            "95% from": 0.8,
            "to": 0.99,
            "within sources": 0.9,
            "AUROC of the whole scan": 0.92,
        }
        assert check.why and check.fix

    def test_of_two_classes_that_mirror_each_other_the_illness_is_named(self, pool, name, place, check_id):
        both = {"normal": told(0.9, 0.80001), "sick": told(0.9, 0.8)}
        check = shortcuts.check(pool, Shortcuts({name: both}, 0.8, 60))[place]
        assert " sick is told with AUROC 0.900" in check.message and "whole scan" not in check.message
        assert check.count == 2 and check.table.rows[0][-1] is None

    @pytest.mark.parametrize(("within", "said"), [(0.89, False), (0.87, True), (0.93, True), (None, False)])
    def test_a_source_that_gives_little_away_is_not_told(self, pool, name, place, check_id, within, said):
        check = shortcuts.check(pool, Shortcuts({name: {"sick": told(0.9, 0.5, within)}}, 0.8, 60))[place]
        assert ("Compared within each source" in check.message) is said

    def test_what_was_not_measured_is_not_checked(self, pool, name, place, check_id):
        check = shortcuts.check(pool, Shortcuts(why_not="there are no embeddings"))[place]
        assert (check.id, check.severity, check.checked) == (check_id, "ok", False)
        assert check.message == "Not checked: there are no embeddings."
        assert check.why and check.fix

    def test_a_block_tells_the_limit_that_blocks(self, pool, name, place, check_id):
        check = shortcuts.check(pool, Shortcuts({name: {"sick": told(0.99, 0.98)}}, 0.8, 60))[place]
        audit = pool.config.audit
        limit = audit.block_shortcut_auroc if name == METADATA else audit.warn_shortcut_auroc
        assert (check.severity, check.threshold) == ("block" if name == METADATA else "warn", limit)


def facts(scans, *, masked_gap, meta_gap, unread=()):
    """Facts in which the sick, the scans of odd number, stand that far apart."""
    ids = scans["image_id"].to_pylist()
    rng = np.random.default_rng(3)
    sick = np.array([int(i, 16) % 2 for i in ids])
    ok = np.array([int(i, 16) not in unread for i in ids])
    masked, meta = rng.normal(size=(len(ids), 6)), rng.normal(size=(len(ids), 2))
    masked[:, 0] += masked_gap * sick
    meta[:, 0] += meta_gap * sick
    masked[~ok], meta[~ok] = np.nan, np.nan
    quality = np.where(ok, 0.5 + 0.25 * sick, np.nan)
    return PixelFacts(tuple(ids), ("size", "format"), meta, masked, quality, ok)


class TestMeasure:
    def measure(self, monkeypatch, folder, rows, *, gap=0.0, **known):
        emb_ND = np.random.default_rng(0).normal(size=(len(rows), 6))
        emb_ND[:, 0] += [gap * (row["label"] == "sick") for row in rows]
        monkeypatch.setattr(off_lung_features, "measure", lambda ctx, scans: asked.append(ctx) or facts(scans, **known))
        monkeypatch.setattr(probes, "NUM_TREES", 10)
        asked, one = [], subject(folder, rows, emb_ND=emb_ND)
        found = shortcuts.measure(one)
        assert asked == [one.ctx]
        return found

    def test_each_probe_is_asked_of_its_own_inputs(self, tmp_path, monkeypatch):
        rows = many(80, label=half, sex=lambda i: "MF"[i % 2])
        found = self.measure(monkeypatch, tmp_path, rows, gap=4.0, masked_gap=2.0, meta_gap=0.0, unread=(1, 3))
        auroc = {name: found.of(name)["sick"].auroc for name in (MODEL, LUNGS_MASKED, METADATA, POPULATION)}
        assert auroc[MODEL] > 0.97 and 0.8 < auroc[LUNGS_MASKED] < auroc[MODEL]
        assert auroc[METADATA] < 0.65 and auroc[POPULATION] == 1.0
        assert {found.of(name)["sick"].num_scans for name in auroc} == {found.num_scans} == {78}
        assert found.quality == pytest.approx((40 * 0.5 + 38 * 0.75) / 78)
        assert [(row["probe"], row["finding"]) for row in found.to_json()] == [
            (name, finding) for name in auroc for finding in ("normal", "sick")
        ]

    def test_files_that_betray_the_class_are_found_out(self, tmp_path, monkeypatch):
        rows = many(80, label=half, age_years=None, view="unknown", sex=None)
        found = self.measure(monkeypatch, tmp_path, rows, masked_gap=0.0, meta_gap=6.0)
        assert found.of(METADATA)["sick"].auroc > 0.97 and found.of(LUNGS_MASKED)["sick"].auroc < 0.7
        assert found.of(POPULATION) == {}

    @pytest.mark.parametrize(
        ("label", "embedded", "reason"),
        [
            (None, True, "no label is known"),
            ("normal", False, "there are no embeddings"),
            ("normal", True, "fewer than two classes have 8 patients or more"),
        ],
    )
    def test_why_nothing_was_measured_is_said(self, tmp_path, monkeypatch, label, embedded, reason):
        rows = many(20, label=label)
        monkeypatch.setattr(off_lung_features, "measure", lambda ctx, scans: facts(scans, masked_gap=0, meta_gap=0))
        one = subject(tmp_path, rows, emb_ND=np.ones((20, 4)) if embedded else None)
        found = shortcuts.measure(one)
        assert (found.why_not, found.scores, found.quality, found.num_scans) == (reason, {}, None, 0)


@pytest.mark.parametrize(("share", "severity"), [(0.34, "ok"), (0.36, "warn")])
def test_a_mark_on_much_of_a_class_is_told_though_the_probe_misses_it(pool, share, severity, monkeypatch):
    mark = off_lung_regions.Region("bright at the top right", share, np.array([1, 3]))
    monkeypatch.setattr(
        off_lung_regions, "standing_out", lambda pool, finding, rows: mark if finding == "sick" else None
    )
    scores = {"normal": told(0.6, 0.5), "sick": told(0.6, 0.5)}
    check = shortcuts.check(pool, Shortcuts({LUNGS_MASKED: scores}, 0.8, 60, rows=(0, 1, 2, 3)))[1]
    assert (check.severity, check.count) == (severity, int(severity == "warn"))
    assert ("36% of the sick scans are bright at the top right" in check.message) is (severity == "warn")


class TestNoSourceKnown:
    """What the probes reach is held against the whole scan where no source could explain it."""

    @pytest.fixture
    def nowhere(self, tmp_path):
        return subject(tmp_path, many(60, label=half, source=None))

    def severity(self, pool, name, place, probe, whole):
        scores = {MODEL: {"sick": told(*whole)}, name: {"sick": told(*probe)}}
        return shortcuts.check(pool, Shortcuts(scores, 0.8, 60))[place].severity

    def test_the_file_reaches_the_whole_scan_within_its_interval(self, nowhere, pool):
        reached, beside = ((0.96, 0.9), (0.99, 0.955)), ((0.96, 0.9), (0.99, 0.97))
        assert self.severity(nowhere, METADATA, 0, *reached) == "block"
        assert self.severity(nowhere, METADATA, 0, *beside) == "warn"
        assert self.severity(pool, METADATA, 0, *reached) == "warn"  # one source is known

    def test_the_scan_without_its_lungs_must_equal_the_whole_one(self, nowhere, pool):
        reached, beside = ((0.999, 0.98), (1.0, 0.97)), ((0.99, 0.98), (1.0, 0.97))
        assert self.severity(nowhere, LUNGS_MASKED, 1, *reached) == "block"
        assert self.severity(nowhere, LUNGS_MASKED, 1, *beside) == "warn"
        assert self.severity(pool, LUNGS_MASKED, 1, *reached) == "warn"

    @pytest.mark.parametrize("probe", [(0.94, 0.9), (0.96, 0.65)])
    def test_below_the_limit_or_by_chance_nothing_blocks(self, nowhere, probe):
        assert self.severity(nowhere, METADATA, 0, probe, (0.94, 0.6)) != "block"

    def test_where_the_limit_is_1_it_is_only_said(self, tmp_path):
        rows = many(60, label=half, source=None)
        lenient = subject(tmp_path / "lenient", rows, **{"audit.block_shortcut_auroc": 1})
        assert self.severity(lenient, METADATA, 0, (1.0, 0.99), (1.0, 0.99)) == "warn"

    def test_the_block_says_that_a_source_is_missing(self, nowhere):
        scores = {MODEL: {"sick": told(1.0, 0.97)}, METADATA: {"sick": told(0.996, 0.93)}}
        check = shortcuts.check(nowhere, Shortcuts(scores, 0.8, 50))[0]
        assert (check.severity, check.threshold) == ("block", nowhere.config.audit.block_shortcut_auroc)
        assert "no source is known that could explain it" in check.message
        assert check.fix.startswith("Say where each scan comes from")
