import json
import re
import shutil

import pyarrow as pa
import pytest

from pipeline.audit import page, page_data, page_figures
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import MANIFEST
from pipeline.pool.burned_in.note import SEEN
from pipeline.report import build
from tests.support.report_runs import OVERRIDE, PASSED, audit_content, check_row, fake_run, write_audit
from tests.support.report_text import HOSTILE, hostile, says_nothing_broken, stands_alone, table_under, words_of

IDS = ["00000000000000aa", "00000000000000bb"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, not audited yet and without a report."""
    return fake_run(tmp_path_factory.mktemp("audited") / "run", num_scans=120, num_rounds=1)


def page_of(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps(content), "utf-8")
    return page.build(folder).read_text("utf-8")


@pytest.mark.parametrize("what", ["valid", "caution", "invalid"])
def test_the_verdict_stands_on_top_in_words_and_colour(tmp_path, what):
    raw = page_of(tmp_path, audit_content(what, IDS))
    assert f'<div class="verdict {what}">' in raw
    assert words_of(raw).index(f"Verdict: {what}") < words_of(raw).index("Message of")
    assert stands_alone(raw) and says_nothing_broken(raw)


def test_the_reason_names_what_blocks_or_warns():
    invalid, caution, valid = (page_data.from_json(audit_content(v, IDS)) for v in ("invalid", "caution", "valid"))
    assert invalid.reason.startswith("1 check blocks: “Source label confounding”.")
    assert caution.reason.startswith("No check blocks; 1 check warns: “Near duplicates”.")
    assert "1 check could not be made" in caution.reason
    assert valid.reason == "3 checks made, none found a fault."


def test_checks_come_blocking_first_then_warnings_then_unchecked_then_folded(tmp_path):
    raw = page_of(tmp_path, audit_content("invalid", IDS))
    assert 'href="/#audit.near-duplicates=yes"' in raw  # to the scans behind it, where the page is served
    order = ["source-label-confounding", "near-duplicates", "no-external-test", *PASSED]
    places = [raw.index(f'id="check-{name}"') for name in order]
    assert places == sorted(places)
    text = words_of(raw)
    assert "Measured: 0.970, where at most 0.800 is wanted ." in text
    for name in order:
        assert all(words in text for words in (f"Why {name} matters.", f"How to mend {name}."))
    assert raw.count('<details class="passed">') == len(PASSED)
    assert table_under(raw, "Source label confounding, numbers") == [["site-a", "120", "0"], ["site-b", "–", "0.250"]]


def test_a_table_of_words_and_yes_or_no_is_readable_and_commands_stand_out(tmp_path):
    table = {
        "columns": ["class", "exclusive", "where", "spare"],
        "rows": [["covid", True, "site-b", 1], ["flu", False]],
    }
    fix = "Run `cxr-ssl evaluate RUN` <b>again</b>."
    raw = page_of(tmp_path, {"checks": [check_row("near-duplicates", "warn", table=table, fix=fix)]})
    assert table_under(raw, "Near duplicates, numbers") == [["covid", "yes", "site-b", "1"], ["flu", "no"]]
    assert "Run <code>cxr-ssl evaluate RUN</code> &lt;b&gt;again&lt;/b&gt;." in raw


@pytest.mark.parametrize(
    ("check", "value", "threshold", "words"),
    [
        ("near-duplicates", 0.0, 100.0, "0, where at most 100 is wanted"),
        ("too-few-cases", 82.0, 10.0, "82, where at least 10 is wanted"),
        ("class-imbalance", 0.0755, 0.05, "0.075, where at least 0.050 is wanted"),
        ("source-predictable", 1.0, 0.3, "1.000, where at most 0.300 is wanted"),
        ("near-duplicates", 0.9, None, "0.900"),
        ("near-duplicates", 7.0, None, "7"),
        ("near-duplicates", None, 0.3, ""),
        ("near-duplicates", float("nan"), 0.3, ""),
    ],
)
def test_a_number_stands_beside_its_limit_and_which_side_is_wanted(check, value, threshold, words):
    assert page_data.CheckRow(check, "X", value=value, threshold=threshold).measured == words


def test_a_check_that_could_not_be_made_is_not_shown_as_passed(tmp_path):
    content = {"checks": [check_row("patient-across-splits", "ok", checked=False, message="No patient column.")]}
    raw = page_of(tmp_path, content)
    assert "What could not be checked" in words_of(raw)
    assert "What passed" not in words_of(raw)
    assert "not checked" in words_of(raw.split('id="check-patient-across-splits"')[1].split("</header>")[0])


@pytest.mark.parametrize("name", ["all", "source-label-confounding"])
def test_an_override_is_printed_with_its_words_and_time_on_every_page(run, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    write_audit(folder, "invalid", override=OVERRIDE | {"check": name})
    index = build(folder).read_text("utf-8")
    for raw in (index, (folder / "report" / "audit.html").read_text("utf-8")):
        said = words_of(raw.split('class="override"')[1].split("</blockquote>")[0])
        assert "“teaching demo, never for patients”" in said
        assert "2025-03-04 05:06:07 UTC" in said
        assert ("Every finding" if name == "all" else "Source label confounding") in said
    assert "teaching demo, never for patients" in (folder / "report" / "model_card.md").read_text("utf-8")
    top = words_of(index.split('<h1 id="title">')[0])
    assert "Audit: invalid" in top and "The numbers below are not evidence." in top
    assert "Somebody let the work go on" in top


def test_an_invalid_audit_says_so_above_the_headline_and_links_its_page(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    write_audit(folder, "invalid")
    index = build(folder).read_text("utf-8")
    above = index.split('<h1 id="title">')[0]
    assert 'class="verdict invalid"' in above and 'href="audit.html"' in above
    assert "The numbers below are not evidence." in words_of(above)
    audit = (folder / "report" / "audit.html").read_text("utf-8")
    assert 'href="index.html"' in audit
    assert "The work stops at: source-label-confounding" in words_of(audit)
    before = [(folder / "report" / name).read_bytes() for name in ("index.html", "audit.html", "checklists.html")]
    build(folder)
    assert [(folder / "report" / n).read_bytes() for n in ("index.html", "audit.html", "checklists.html")] == before


def test_a_run_without_an_audit_admits_it(run):
    index = build(run).read_text("utf-8")
    assert "This run was not audited" in words_of(index)
    assert 'href="audit.html"' not in index and not (run / "report" / "audit.html").exists()


def test_audit_json_alone_makes_a_page_and_lists_its_evidence_without_pictures(tmp_path):
    raw = page_of(tmp_path, audit_content("invalid", IDS))
    assert "data:image/jpeg" not in raw and "no picture" in raw
    assert "copy number 1" in words_of(raw)
    assert 'href="index.html"' not in raw


def test_with_a_manifest_evidence_has_pictures_and_says_whose_they_are(run, tmp_path):
    ids = MANIFEST.read(run)["image_id"].to_pylist()[:2]
    shutil.copy(run / "manifest.parquet", tmp_path)
    raw = page_of(tmp_path, audit_content("invalid", [*ids, "ffffffffffffffff"]))
    assert raw.count("data:image/jpeg;base64,") == 3  # two near duplicates, and the first once more where it blocks
    assert "site-a · PA" in words_of(raw)
    assert "patienthash" not in raw and "secret-name" not in raw


def test_a_picture_that_is_kept_back_says_why(run, tmp_path):
    manifest = MANIFEST.read(run)
    ids = manifest["image_id"].to_pylist()[:2]
    place = manifest.schema.get_field_index("note")
    MANIFEST.write(tmp_path, manifest.set_column(place, "note", pa.array([SEEN, *[None] * (len(manifest) - 1)])))
    raw = page_of(tmp_path, audit_content("invalid", ids))
    assert raw.count(f'aria-label="scan {ids[0][:8]}: text in it: not shown"') == 2 and "no picture" not in raw


def test_facts_and_times_are_words(tmp_path):
    table = {"columns": ["time", "reader"], "rows": [["2026-01-02T03:04:05+00:00", "audit"]]}
    content = {
        "checks": [check_row("holdout-access", "warn", table=table)],
        "facts": {"burned_in_text": "kept back", "num_scans": 3, "lung_mask_quality": 0.5, "split": "drawn by group"},
    }
    text = words_of(page_of(tmp_path, content))
    assert (
        "pictures with text burnt in not shown, not handed out" in text and "fit of the lung masks, of 1 0.500" in text
    )
    assert "split drawn, patients kept together" in text and "2026-01-02 03:04:05 UTC" in text


def test_a_manifest_that_cannot_be_read_costs_the_pictures_only(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"not a table")
    assert "no picture" in page_of(tmp_path, audit_content("caution", IDS))


def test_a_scan_is_shown_as_it_is_and_equalised(run, tmp_path):
    manifest = MANIFEST.read(run)
    MANIFEST.write(tmp_path, manifest)
    row = {"image_id": manifest["image_id"][0].as_py(), "note": "sick"}
    others = [
        row | {"note": "equalised", "alteration": "equalised"},
        row | {"note": "odd", "alteration": "upside down"},
    ]
    raw = page_of(tmp_path, {"checks": [check_row("grey-levels-predict-label", "warn", evidence=[row, *others])]})
    plain, equalised, odd = re.findall(r'<img src="(data:image/jpeg[^"]+)" alt="scan [^"]+?(?:, equalised)?"', raw)
    assert plain == odd != equalised
    assert raw.count(', equalised" decoding') == 1


def test_pictures_are_capped_and_no_check_takes_the_room_of_another(tmp_path, monkeypatch):
    evidence = [{"image_id": f"{i:016x}", "note": "n"} for i in range(24)]
    checks = [check_row(f"check-{k}", "warn", evidence=evidence, count=500) for k in range(10)]
    shown = page.share_pictures(page_data.from_json({"checks": checks}).checks, most=25)
    assert sum(map(len, shown.values())) == 25
    assert {len(ids) for ids in shown.values()} == {2, 3}
    monkeypatch.setattr(page, "share_pictures", lambda checks: shown)
    text = words_of(page_of(tmp_path, {"checks": checks}))
    assert "Without a picture, to keep this page small" in text
    assert "24 examples; the check counts 500 in all" in text


def test_shortcuts_stand_beside_the_model_and_are_called_out(tmp_path):
    content = audit_content("invalid", IDS)
    raw = page_of(tmp_path, content)
    rows = table_under(raw, "Shortcuts")
    assert [row[1] for row in rows[:7]] == list(page_figures.PROBES.values())
    assert rows[4] == ["normal", "file metadata alone", "0.970", "0.920–1.000", "0.870", "300", "150"]
    said = page_figures.warnings_of(content["shortcuts"])
    assert said[0].startswith(
        "normal: file metadata alone reaches an AUROC of 0.970, where this run’s model reaches 0.930"
    )
    harmless = [row for row in content["shortcuts"] if row["probe"] in ("model", "equalised", "lungs-masked")]
    assert page_figures.warnings_of(harmless) == []
    assert raw.count('class="chart"') == 1 and "#0101" not in raw and "#0202" not in raw


def test_other_sources_and_slices_repeat_every_number(tmp_path):
    raw = page_of(tmp_path, audit_content("caution", IDS))
    assert table_under(raw, "Leave one source out") == [
        ["site-a", "210", "normal and pneumonia", "0.740", "0.660–0.810", "0.920", "0.880–0.950", ""],
        ["site-b", "40", "", "–", "–", "–", "–", "it has one class only"],
    ]
    sex = table_under(raw, "Slices by sex")
    assert sex[0][:6] == ["F", "190", "95", "40", "47.5%", "40.0%"]
    clusters = table_under(raw, "Slices by cluster")
    assert len(clusters) == 24
    assert {row[3] for row in clusters} >= {"0"}
    text = words_of(raw)
    assert "6 more slices in audit.json" in text and "1 slice without a label" in text
    assert sum(row[3] == "0" for row in clusters) == 10  # none of those that labels do not reach is left out


@pytest.mark.parametrize("content", [{}, {"checks": None}, {"checks": [{}]}, {"checks": [{"id": "x"}], "verdict": "?"}])
def test_parts_that_are_missing_are_left_out(tmp_path, content):
    raw = page_of(tmp_path, content)
    assert "Verdict:" in words_of(raw) and says_nothing_broken(raw) and stands_alone(raw)


def test_a_severity_nobody_knows_is_not_taken_for_a_pass():
    assert page_data.from_json({"checks": [{"id": "x", "severity": "?"}]}).verdict == "caution"


def test_an_unlabelled_pool_is_shown_as_far_as_it_goes(tmp_path):
    content = audit_content("caution", IDS)
    nothing = {"num_labelled": 0, "share_labelled": None, "note": None}
    content |= {"shortcuts": [], "external": [], "slices": [row | nothing for row in content["slices"]]}
    raw = page_of(tmp_path, content)
    assert "Can the label be told" not in raw
    assert table_under(raw, "Slices by sex")[0] == ["F", "190", "95", "0", "47.5%", "–", "", ""]
    assert says_nothing_broken(raw)


def test_markup_in_any_text_is_escaped(tmp_path):
    content = hostile(audit_content("invalid", IDS, override=OVERRIDE))
    content["verdict"] = "invalid"
    for check, severity in zip(content["checks"], ["ok", "ok", "ok", "warn", "warn", "block"], strict=True):
        check["severity"] = severity
    raw = page_of(tmp_path / "run", content)
    assert "<script" not in raw
    assert raw.count("&lt;script&gt;alert") > 50
    assert HOSTILE in words_of(raw)


@pytest.mark.parametrize("text", [None, "{", ""])
def test_without_an_audit_that_can_be_read_the_way_out_is_said(tmp_path, text):
    if text is not None:
        (tmp_path / "audit.json").write_text(text)
    with pytest.raises(RunDirError, match="cxr-ssl audit"):
        page.build(tmp_path)
