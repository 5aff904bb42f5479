import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from embeddings import decode
from embeddings.decode import open_scan
from pipeline.annotate import contact_sheet
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import CLUSTERS, LABELS, MANIFEST, POOL_LABELS, QUEUE
from pipeline.pages import wording
from pipeline.pages.thumbnails import thumbnail
from pipeline.report import build, stage
from pipeline.report.cautions import cautions
from pipeline.report.gather import gather
from tests.support import report_text
from tests.support.report_runs import PATIENT_PREFIX, fake_run
from tests.support.report_text import HOSTILE, words_of
from tests.support.written_on import say_written_on


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("two") / "run-two")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("three") / "run", findings=("normal", "covid", "viral pneumonia"))
    build(folder)
    return folder


@pytest.fixture
def copy(two, tmp_path):
    """The run of two classes, for a test to spoil."""
    shutil.copytree(two, tmp_path / "run")
    return tmp_path / "run"


def text_of(folder):
    """The page's words as a reader sees them."""
    return words_of((folder / "report" / "index.html").read_text("utf-8"))


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def of_100(pair):
    return f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}%"


def table_under(folder, label):
    """The body of the table in the region called `label`, as rows of words."""
    return report_text.table_under((folder / "report" / "index.html").read_text("utf-8"), label)


def test_headline_and_tiles_say_what_the_metrics_say(two):
    last, text = metrics_of(two)[-1], text_of(two)
    scores = last["holdout"]
    row = scores["per_class"]["pneumonia"]
    low, high = scores["auroc_ci95"]
    assert f"AUROC {scores['auroc']:.3f} for pneumonia from {last['num_expert']} expert labels" in text
    assert f"an AUROC of {scores['auroc']:.3f} (95% interval {low:.3f}–{high:.3f})" in text
    assert f"on {scores['num_scans']} sealed holdout scans of" in text
    assert f"{row['tp']} of {row['num_positive']} scans with pneumonia" in text
    assert f"{row['tn']} of {row['tn'] + row['fp']} scans without it" in text
    assert f"always answering “pneumonia” scores {100 * scores['majority_accuracy']:.1f}%" in text
    assert f"Accuracy {100 * scores['accuracy']:.1f}%" in text


def test_patients_of_the_holdout_are_counted_in_the_manifest(two):
    splits = pq.read_table(two / "splits.parquet").to_pylist()
    patient = {r["image_id"]: r["patient_id"] for r in pq.read_table(two / "manifest.parquet").to_pylist()}
    num = len({patient[r["image_id"]] for r in splits if r["split"] == "holdout"})
    assert f"sealed holdout scans of {num} patients" in text_of(two)


def test_of_many_scans_the_headline_speaks_of_100(tmp_path):
    folder = fake_run(tmp_path / "run", num_scans=900, num_rounds=1)
    build(folder)
    row = metrics_of(folder)[-1]["holdout"]["per_class"]["pneumonia"]
    assert row["num_positive"] >= 100
    here = f"({row['tp']} of {row['num_positive']} here)"
    assert f"{100 * row['sensitivity']:.0f} of 100 scans with pneumonia {here}" in text_of(folder)


def test_the_table_of_rounds_repeats_every_number(two):
    rows = table_under(two, "Rounds")
    reference = [json.loads(line) for line in (two / "reference.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    for shown, row, random in zip(rows, metrics_of(two), reference, strict=True):
        h = row["holdout"]
        assert shown[:12] == [
            str(row["round"]),
            str(row["num_expert"]),
            str(row["num_pseudo"]),
            f"{h['auroc']:.3f}",
            f"{h['auroc_ci95'][0]:.3f}–{h['auroc_ci95'][1]:.3f}",
            f"{random['holdout']['auroc']:.3f}",
            f"{100 * h['accuracy']:.1f}%",
            f"{100 * h['balanced_accuracy']:.1f}%",
            f"{100 * h['sensitivity']:.1f}%",
            f"{100 * h['specificity']:.1f}%",
            f"{h['ece']:.3f}",
            f"{100 * row['flip_rate']:.1f}%",
        ]
        assert shown[12] == ("rolled back" if row["rolled_back"] else "")


@pytest.mark.parametrize("which", ["two", "three"])
def test_per_class_table_and_confusion_repeat_every_number(which, request):
    folder = request.getfixturevalue(which)
    scores = metrics_of(folder)[-1]["holdout"]
    rows = table_under(folder, "Findings")
    for shown, (finding, row) in zip(rows, scores["per_class"].items(), strict=True):
        assert shown == [
            finding,
            str(row["num_positive"]),
            f"{row['auroc']:.3f}",
            f"{row['auroc_ci95'][0]:.3f}–{row['auroc_ci95'][1]:.3f}",
            f"{row['auprc']:.3f}",
            *(f"{100 * row[k]:.1f}%{of_100(row[f'{k}_ci95'])}" for k in ("sensitivity", "specificity")),
            f"{100 * row['precision']:.1f}%",
            f"{row['f1']:.3f}",
            str(row["tp"]),
            str(row["fn"]),
            str(row["fp"]),
        ]
    for shown, cells in zip(table_under(folder, "Confusion matrix"), scores["confusion"], strict=True):
        assert shown[1:] == [f"{n}{100 * n / sum(cells):.1f}%" for n in cells]


def test_cells_of_the_confusion_link_to_scans_where_the_page_is_served(three):
    raw = (three / "report" / "index.html").read_text("utf-8")
    links = re.findall(r'<a class="look" href="/#label=([^&]+)&amp;out_of_fold=([^"]+)"', raw)
    names = ("normal", "covid", "viral%20pneumonia")
    assert links == [(truth, called) for truth in names for called in names]
    assert "body:not([data-served]) .look { display: none; }" in raw  # elsewhere they would lead nowhere


def test_estimated_certified_and_realised_are_three_named_numbers(two):
    last, text = metrics_of(two)[-1], text_of(two)
    assert f"Estimated precision {100 * last['pseudo_precision_estimated']:.1f}%" in text
    assert f"Certified precision ≥ {wording.floor_percent(last['pseudo_precision_certified'])}" in text
    assert f"Realised precision {100 * last['pseudo_precision']:.1f}%" in text
    assert f"{last['release']['checks_needed']} more error-free checks would certify 97%" in text
    first = table_under(two, "Pseudo-labels")[0]
    assert first[:6] == ["1", str(metrics_of(two)[0]["num_pseudo"]), "45.0%", "97.2%", "–", "96.5%"]
    assert first[6:] == ["0.870", "0.890"]


def test_a_bound_is_never_rounded_up():
    assert wording.floor_percent(0.96996) == "96.9%"
    assert wording.floor_percent(0.95) == "95.0%"
    assert wording.floor_percent(0.887) == "88.7%"
    assert wording.floor_percent(None) == wording.floor_percent(float("nan")) == "–"


def test_intervals_p_values_and_times_as_people_read_them():
    assert wording.interval([0.9212, 0.958]) == "0.921–0.958"
    assert wording.interval([-0.05, 40.08], digits=2) == "−0.05 to 40.08"
    assert wording.interval([0.1, float("inf")]) == wording.signed_interval([None, 1.0]) == "–"
    assert wording.signed_interval([-0.15, 0.02]) == "−0.150 to +0.020"
    assert [wording.p_value(p) for p in (0.0004, 0.021, None)] == ["< 0.001", "0.021", "–"]
    assert wording.moment("2025-01-01T05:06:07+00:00") == "2025-01-01 05:06:07 UTC"
    assert wording.moment("2025-01-01T05:06:07+02:00") == "2025-01-01T05:06:07+02:00"
    assert wording.moment(None) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "< 0.1 s"), (2.04, "2.0 s"), (59.7, "1 min"), (75.2, "1 min 15 s"), (7260, "2 h 1 min"), (None, "–")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words


def test_flow_counts_come_from_the_tables(two):
    text = text_of(two)
    assert "files found 400" in text
    assert "set aside 3 truncated file 3" in text
    assert "readable scans 397" in text
    assert "groups never split 200 1 exact and 2 near copies" in text
    assert "shown to experts 100 80 typical, 20 at random" in text


def test_the_page_is_one_offline_file(two):
    page_file = two / "report" / "index.html"
    raw = page_file.read_text("utf-8")
    outside = [
        u
        for u in re.findall(r"(?:https?:)?//[\w.-]+", re.sub(r"base64,[A-Za-z0-9+/=]+", "", raw))
        if "www.w3.org" not in u
    ]
    assert outside == []
    assert set(re.findall(r'(?:src|href)="([^"#:]*[#:])', raw)) <= {
        "data:",
        "#",
        "/#",
    }  # the last: to the page of the pool, hidden where no server gives it
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:,\")|@import|url\((?!#)", raw)
    assert page_file.stat().st_size < 5_000_000
    assert raw.count("<h1") == 1


def test_ids_on_the_page_are_unique_and_every_reference_has_a_target(three):
    raw = (three / "report" / "index.html").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]+)"', raw)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', raw)) <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', raw)) <= set(ids)


def test_figures_have_words_and_images_have_alt(three):
    raw = (three / "report" / "index.html").read_text("utf-8")
    assert raw.count('class="chart"') == 9
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", raw))
    assert len(re.findall(r'role="img" aria-label="[^"]{20,}"', raw)) >= 9
    assert "#0101" not in raw and "#0202" not in raw  # every stand-in became a CSS variable


def test_the_same_run_gives_the_same_bytes(two, tmp_path):
    before = [(two / "report" / name).read_bytes() for name in ("index.html", "model_card.md")]
    build(two)
    assert [(two / "report" / name).read_bytes() for name in ("index.html", "model_card.md")] == before


def test_hostile_names_are_escaped(tmp_path):
    folder = fake_run(
        tmp_path / f"run {HOSTILE.replace('/', '')}",
        findings=("normal", HOSTILE),
        num_scans=120,
        num_rounds=2,
    )
    table = MANIFEST.read(folder).to_pylist()
    for row in table:
        row["reason"] = f"{HOSTILE} | $\\frac$" if row["status"] == "quarantined" else None
        row["source"] = HOSTILE
    MANIFEST.write(folder, MANIFEST.schema.empty_table().from_pylist(table, MANIFEST.schema))
    raw = build(folder).read_text("utf-8")
    assert "<script>alert" not in raw
    assert "&lt;script&gt;alert" in raw
    assert raw.count("<script") == 2  # the map's data and its code
    card = (folder / "report" / "model_card.md").read_text("utf-8")
    assert "<script>" not in card.replace("\\<", "")


def test_names_from_other_scripts_and_mathtext_do_not_stop_the_charts(tmp_path):
    folder = fake_run(tmp_path / "run", findings=("normal", "$x^2$", "肺炎"), num_scans=120, num_rounds=1)
    assert "肺炎" in build(folder).read_text("utf-8")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("clusters.parquet", "holds no map of the pool"),
        ("reference.jsonl", "No random draw on the same budget was run"),
        ("predictions.parquet", "Curves need the holdout scans’ own answers and predictions"),
        ("stages.json", "The time of each stage was not recorded"),
        ("resolved.yaml", "The resolved configuration was not found"),
        ("manifest.parquet", "the flow of scans cannot be shown"),
        ("splits.parquet", "The pool has not been split yet"),
        ("rounds", "No queue has been written yet"),
        ("metrics.jsonl", "No round has finished yet"),
        ("labels.parquet", "not answered"),
        ("pool_labels.parquet", "Mistakes are known only where the holdout has answers"),
        ("duplicates.parquet", "readable scans"),
        ("env.json", "Made by cxr-ssl"),
        ("status.json", "Made by cxr-ssl"),
    ],
)
def test_a_missing_file_costs_one_sentence_not_the_page(copy, missing, sentence):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    build(copy)
    assert sentence in text_of(copy)


def test_a_run_that_waits_for_its_annotators(copy):
    for name in ("metrics.jsonl", "reference.jsonl", "predictions.parquet", "labels.parquet"):
        (copy / name).unlink()
    for number in range(2, 6):
        shutil.rmtree(copy / "rounds" / f"{number:02d}")
    shutil.rmtree(copy / "rounds" / "01" / "model")
    (copy / "status.json").write_text(json.dumps({"state": "waiting", "stage": "rounds", "round": 1}))
    build(copy)
    text = text_of(copy)
    assert "Round 1 asks the experts for 20 labels; 20 scans still wait for an answer" in text
    assert "AUROC 0" not in text
    assert "Round 1: 20 scans, 0 answered" in text
    assert "The sealed holdout has no scores yet" in text


def test_rounds_without_holdout_scores_claim_nothing(copy):
    rows = metrics_of(copy)
    nothing = {
        "pseudo_precision": None,
        "pseudo_precision_certified": None,
        "pseudo_precision_estimated": None,
    }
    blank = {
        "threshold_prob": dict.fromkeys(("normal", "pneumonia")),
        "prevalence": dict.fromkeys(("normal", "pneumonia")),
    }
    rows = [
        {**row, **nothing, **blank, "holdout": None, "flip_rate": None, "certificates": {}, "release": None}
        for row in rows
    ]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = POOL_LABELS.read(copy).to_pylist()
    POOL_LABELS.write(copy, POOL_LABELS.empty().from_pylist([{**r, "label": None} for r in labels], POOL_LABELS.schema))
    build(copy)
    text = text_of(copy)
    assert "cannot say how good it is" in text
    assert "Certified precision nothing yet" in text
    assert "Realised precision not known" in text
    assert "No blind check of a pseudo-label has been recorded" in text


def test_values_that_could_not_be_measured_show_as_a_dash(copy):
    rows = metrics_of(copy)
    scores = rows[-1]["holdout"]
    scores.update(auroc=None, auroc_ci95=None, accuracy_ci95=None, confusion=[[1, 2], [3, 4]])
    scores["per_class"]["pneumonia"].update(auroc=float("nan"), auroc_ci95=None, sensitivity=None)
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(copy)
    assert "nan" not in re.sub(r"\b\w*nan\w+|\w+nan\w*\b", "", text_of(copy).lower())
    assert "confusion matrix does not add up" in text_of(copy)
    assert table_under(copy, "Findings")[1][2:4] == ["–", "–"]


def test_experts_answers_stand_in_for_a_pool_without_labels(copy):
    labels = POOL_LABELS.read(copy).to_pylist()
    POOL_LABELS.write(copy, POOL_LABELS.empty().from_pylist([{**r, "label": None} for r in labels], POOL_LABELS.schema))
    holdout = [
        r["image_id"] for r in pq.read_table(copy / "predictions.parquet").to_pylist() if r["split"] == "holdout"
    ][:10]
    rows = LABELS.read(copy).to_pylist() + [
        {
            "image_id": i,
            "finding": f,
            "value": float(f == "normal"),
            "origin": "expert",
            "annotator": "dr-a",
            "answer": 10_000 + holdout.index(i),
            "reply": "normal",
            "round": 1,
        }
        for i in holdout
        for f in ("normal", "pneumonia")
    ]
    LABELS.write(copy, LABELS.empty().from_pylist(rows, LABELS.schema))
    run = gather(copy)
    assert run.holdout is not None
    assert sorted(run.holdout.image_ids) == sorted(holdout)
    assert set(run.holdout.truth_N) == {"normal"}


def test_cautions_follow_the_data(two, three):
    two_said, three_said = "\n".join(cautions(gather(two))), "\n".join(cautions(gather(three)))
    assert "Research use only" in two_said
    assert "Round 4 was rolled back" in two_said
    assert "3 files could not be used" in two_said
    assert "one source (site-a)" in two_said
    assert "No expert took part" in two_said
    assert "The holdout is small" in three_said


def test_cautions_admit_a_better_round_and_a_better_random_draw(copy):
    rows = metrics_of(copy)
    rows[0]["holdout"]["auroc"] = 0.999
    rows[-1]["holdout"]["auroc"] = 0.7
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = "\n".join(cautions(gather(copy)))
    assert "Round 1 scored higher on the holdout (AUROC 0.999)" in said
    assert "drawn at random did no worse" in said


def test_a_round_without_pseudo_labels_says_so(copy):
    rows = metrics_of(copy)
    nothing = dict.fromkeys(("pseudo_precision", "pseudo_precision_estimated", "pseudo_precision_certified"))
    rows[-1].update(nothing, num_pseudo=0, pseudo_share=0.0, threshold_prob={"normal": 1.01, "pneumonia": 1.01})
    for tier in rows[-1]["release"]["tiers"]:
        tier.update(num_checked=0, bound=0.0, checks_needed=122)
    rows[-1]["release"]["checks_needed"] = 122
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(copy)
    text = text_of(copy)
    assert "none was safe enough in the last round" in text
    assert "0 errors in 0 blind checks; 122 more error-free checks would certify 97%" in text
    assert table_under(copy, "Pseudo-labels")[-1][3:] == ["–", "–", "–", "none safe", "none safe"]
    assert table_under(copy, "Certificates")[-1][:4] == ["whole release", "0", "0", "–"]


def test_mistakes_are_the_predictions_that_miss_the_label(two):
    run = gather(two)
    confusion = np.array(metrics_of(two)[-1]["holdout"]["confusion"])
    assert len(run.mistakes) == confusion.sum() - np.trace(confusion)
    assert all(scan.is_mistake for scan in run.mistakes)
    sure = [scan.probability for scan in run.mistakes]
    assert sure == sorted(sure, reverse=True)


def test_a_large_pool_is_sampled_on_the_map_but_queue_and_mistakes_stay(two, monkeypatch):
    monkeypatch.setattr("pipeline.report.gather.MAX_POINTS", 50)
    run = gather(two)
    shown = {scan.image_id for scan in run.points}
    assert 50 <= len(shown) < len(CLUSTERS.read(two))
    assert {scan.image_id for scan in run.mistakes} <= shown
    assert {scan.image_id for scans in run.queues.values() for scan in scans} <= shown


def test_thumbnails_are_capped_and_the_rest_is_said(copy, monkeypatch):
    monkeypatch.setattr(stage, "MAX_THUMBNAILS", 30)
    raw = build(copy).read_text("utf-8")
    assert raw.count("data:image/jpeg;base64,") == 30
    assert "listed without a picture" in text_of(copy)


def test_a_broken_scan_is_a_placeholder_and_counted(copy):
    queue = pq.read_table(copy / "rounds" / "01" / "queue.parquet")["image_id"].to_pylist()
    uri = {r["image_id"]: r["uri"] for r in MANIFEST.read(copy).to_pylist()}
    broken = MANIFEST.read(copy).to_pylist()
    bad = copy / "bad.png"
    bad.write_bytes(b"not an image")
    for row in broken:
        row["uri"] = str(bad) if row["image_id"] == queue[0] else uri[row["image_id"]]
    MANIFEST.write(copy, MANIFEST.empty().from_pylist(broken, MANIFEST.schema))
    assert "no picture" in build(copy).read_text("utf-8")
    assert "1 scan could not be read again for a picture" in text_of(copy)


def test_a_thumbnail_is_small_and_grey(tmp_path):
    import base64
    import io

    path = tmp_path / "x.png"
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (512, 2))).save(path)
    uri = thumbnail(str(path), side_px=96)
    assert uri is not None
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert (picture.size, picture.mode) == ((96, 96), "L")


def test_a_thumbnail_is_made_once_and_anew_of_another_file(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(decode, "open_scan", lambda uri, **how: opened.append(uri) or open_scan(uri, **how))
    path = tmp_path / "x.png"
    ramp_HW = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    Image.fromarray(ramp_HW).save(path)
    first = thumbnail(str(path), side_px=32)
    assert thumbnail(str(path), side_px=32) == first and len(opened) == 1
    assert thumbnail(str(path), side_px=16) != first
    Image.fromarray(ramp_HW.T.copy()).save(path)
    other = thumbnail(str(path), side_px=32)
    assert None not in (first, other) and other != first
    path.unlink()
    assert thumbnail(str(path), side_px=32) is None


def test_a_thumbnail_of_a_file_that_is_gone_names_no_file(tmp_path, caplog):
    assert thumbnail(str(tmp_path / "Meyer_Anna.png"), side_px=32) is None
    assert "the file is missing" in caplog.text and "Meyer" not in caplog.text


def test_a_16_bit_scan_keeps_its_greys(tmp_path):
    import base64
    import io

    path = tmp_path / "deep.png"
    Image.fromarray(np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))).save(path)
    uri = thumbnail(str(path), side_px=64, quality=95)
    assert uri is not None
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    assert abs(int(grey[32, 0])) < 8 and abs(int(grey[32, 32]) - 129) < 8 and grey[32, 63] > 247


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunDirError, match="no run was found"):
        build(tmp_path)


def test_model_card_repeats_the_metrics(two):
    card, last = (two / "report" / "model_card.md").read_text("utf-8"), metrics_of(two)[-1]
    scores = last["holdout"]
    assert f"| AUROC | {scores['auroc']:.3f} | {scores['auroc_ci95'][0]:.3f}–{scores['auroc_ci95'][1]:.3f} |" in card
    assert f"| Accuracy | {100 * scores['accuracy']:.1f}% |" in card
    assert f"- Expert labels: {last['num_expert']} (looked up in the pool's own labels)" in card
    assert "- Diagnosis, triage or any decision about a patient." in card
    assert "Research use only" in card


def queue_rows(folder: Path, num=6):
    rows = []
    for i in range(num):
        path = folder / f"{PATIENT_PREFIX}{i}-secret.png"
        Image.fromarray(np.full((40, 30), 40 * i, np.uint8) + np.arange(30, dtype=np.uint8)).save(path)
        image_id = hashlib.sha256(str(i).encode()).hexdigest()[:16]
        kind = "uniform" if i % 2 else "representative"
        extra = {
            "kind": kind,
            "score": 0.123456,
            "proposed": "tuberculosis",
            "patient_id": f"{PATIENT_PREFIX}{i}",
            "cluster": 98765,
        }
        rows.append({"image_id": image_id, "rank": num - i, "file": str(path), **extra})
    return rows


def test_contact_sheet_does_not_leak_why_whose_or_where(tmp_path):
    sheet = contact_sheet.queue_html(queue_rows(tmp_path), findings=["normal", "pneumonia"], round_index=2)
    words = re.sub(r"base64,[A-Za-z0-9+/=]+", "", sheet)
    for secret in (
        "uniform",
        "representative",
        "tuberculosis",
        PATIENT_PREFIX,
        "secret",
        str(tmp_path),
        "0.123456",
        "98765",
    ):
        assert secret not in words
    assert "://" not in words
    assert sheet.count("data:image/jpeg;base64,") == 6


def test_contact_sheet_is_in_order_of_rank_with_a_place_for_each_answer(tmp_path):
    rows = queue_rows(tmp_path)
    sheet = contact_sheet.queue_html(rows, findings=["normal", HOSTILE])
    assert re.findall(r'data-rank="(\d+)"', sheet) == ["1", "2", "3", "4", "5", "6"]
    assert re.findall(r'data-id="(\w+)"', sheet) == [row["image_id"] for row in reversed(rows)]
    assert sheet.count('type="radio"') == 6 * (2 + len(REMARKS))
    assert sheet.count('value="cannot tell"') == 6
    assert "<script>alert" not in sheet
    blank = contact_sheet.queue_html(rows)
    assert 'type="radio"' not in blank and blank.count('class="blank"') == 6


def test_contact_sheet_with_a_broken_scan(tmp_path):
    rows = queue_rows(tmp_path, num=3)
    Path(rows[0]["file"]).write_bytes(b"")
    sheet = contact_sheet.queue_html(rows, findings=["normal", "pneumonia"])
    assert "1 scan could not be drawn here" in sheet
    assert sheet.count("data:image/jpeg;base64,") == 2


def test_scans_with_text_burnt_in_have_no_picture(tmp_path):
    folder = fake_run(tmp_path / "run", num_scans=60, num_rounds=1)
    before = build(folder).read_text("utf-8").count("data:image/jpeg;base64,")
    written = QUEUE.read(folder / "rounds" / "01")["image_id"].to_pylist()[:4]
    say_written_on(folder, written)
    after = build(folder).read_text("utf-8")
    assert after.count("data:image/jpeg;base64,") == before - 4
    assert {f"scan {image_id[:8]}: text in it: not shown" in after for image_id in written} == {True}
    assert {f'href="/#scan={image_id}"' in after for image_id in written} == {True}
