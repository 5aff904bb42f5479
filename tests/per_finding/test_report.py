import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts import finding_line
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import LABELS, POOL_LABELS, SPLIT_TABLE
from pipeline.per_finding import parts as per_finding_parts
from pipeline.per_finding import report
from pipeline.report.overview import gather, model_card, page
from pipeline.runtime import finding_folders, run_files
from tests.support.report_runs import BUDGET, fake_run, table, write_audit
from tests.support.report_text import HOSTILE, says_nothing_broken, stands_alone, table_under, words_of

FINDINGS = ("effusion", "mass", "nodule")
WORSE = {"effusion": 0.05, "mass": 0.0, "nodule": 0.12}  # taken off the AUROC that `fake_run` measures
NUM_SCANS, NUM_ROUNDS = 120, 2


def several_run(folder, findings=FINDINGS, num_rounds=NUM_ROUNDS):
    """A finished oracle run of independent findings, put together from an ordinary run for each of them."""
    folder.mkdir(parents=True)
    picture = folder / "scan.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture)
    names = per_finding_parts._names(findings, {})
    parts = {finding: folder / finding_folders.FOLDER / name for finding, name in names.items()}
    for finding, part in parts.items():
        question = finding_line.question(finding)
        fake_run(part, findings=question, num_scans=NUM_SCANS, num_rounds=num_rounds, pictures=[picture])
        for name in ("metrics.jsonl", "reference.jsonl"):
            write_rows(part / name, [worse(row, finding) for row in rows_of(part / name)])
        write_audit(part, "caution", findings=question)
    index = [{"finding": finding, "folder": name} for finding, name in names.items()]
    (folder / finding_folders.FOLDER / finding_folders.INDEX).write_text(json.dumps({"findings": index}))
    first = next(iter(parts.values()))
    for name in ("resolved.yaml", "env.json"):
        shutil.copy(first / name, folder / name)
    for part in parts.values():  # what no finding changes lies in the run alone
        for path in [part / name for name in run_files.SHARED if (part / name).is_file()]:
            path.replace(folder / path.name)
    shutil.copytree(first / "rounds", folder / "rounds")
    write_audit(folder, "caution")
    write_labels(folder, findings)
    write_metrics(folder)
    return folder


def worse(row, finding):
    """A row of metrics with the AUROC of its finding moved, interval and all."""
    own, off = row["holdout"]["per_class"][finding], WORSE.get(finding, 0.0)
    own |= {"auroc": own["auroc"] - off, "auroc_ci95": [end - off for end in own["auroc_ci95"]]}
    row["holdout"] |= {"auroc": own["auroc"], "auroc_ci95": own["auroc_ci95"]}
    return row


def said_of(number, finding):
    """What the experts say of the scan with that number: every second one has the first, every fifth the second."""
    if finding == "nodule" and number % 4 == 3:
        return float("nan")
    return float(number % {"effusion": 2, "mass": 5}.get(finding, 3) == 0)


def write_labels(folder, findings, said=said_of):
    """The run's label table, and its projections in the folder of each finding."""
    ids = sorted(set(LABELS.read(next(iter(finding_folders.parts_in(folder).values())))["image_id"].to_pylist()))
    rows = [(number, i, f, said(number, f)) for number, i in enumerate(ids) for f in findings]
    lines = {n: finding_line.write({f: said(n, f) for f in findings}, findings) for n in range(len(ids))}
    columns = {
        "image_id": [i for _, i, *_ in rows],
        "finding": [f for _, _, f, _ in rows],
        "value": [v for *_, v in rows],
        "origin": ["expert"] * len(rows),
        "annotator": ["oracle"] * len(rows),
        "answer": [1 + n for n, *_ in rows],
        "reply": [lines[n] for n, *_ in rows],
        "round": [1 + n // BUDGET for n, *_ in rows],
    }
    LABELS.write(folder, table(LABELS, columns))
    for finding, part in finding_folders.parts_in(folder).items():
        LABELS.write(part, per_finding_parts.project_labels(LABELS.read(folder), finding))


def write_metrics(folder):
    """The run's own metrics, as the rounds put them together: means over the findings that have them."""
    own = {f: rows_of(part / "metrics.jsonl") for f, part in finding_folders.parts_in(folder).items()}
    write_rows(
        folder / "metrics.jsonl",
        [merged(dict(zip(own, rows, strict=True))) for rows in zip(*own.values(), strict=True)],
    )


def merged(findings):
    """One row of the run's metrics."""
    per_class = {f: row["holdout"]["per_class"][f] for f, row in findings.items() if row["holdout"]}
    keys = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
    values = {
        k: [r["holdout"][k] for r in findings.values() if r["holdout"] and r["holdout"][k] is not None] for k in keys
    }
    means = {k: float(np.mean(v)) if v else None for k, v in values.items()}
    any_row = next(iter(findings.values()))
    return {
        "round": any_row["round"],
        "num_expert": any_row["round"] * BUDGET,
        "num_pseudo": sum(row["num_pseudo"] for row in findings.values()),
        "rolled_back": any(row["rolled_back"] for row in findings.values()),
        "holdout": means | {"num_scans": 25, "num_groups": 20, "num_findings": len(per_class), "per_class": per_class}
        if per_class
        else None,
        "findings": findings,
        "seconds": {"train": 1.0},
    }


def change(folder, finding, edit):
    """Change the last row of a finding's metrics, and the run's with it."""
    part = finding_folders.parts_in(folder)[finding]
    rows = rows_of(part / "metrics.jsonl")
    edit(rows[-1])
    write_rows(part / "metrics.jsonl", rows)
    write_metrics(folder)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def page_of(folder):
    return (folder / "report" / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished run of three findings with its report."""
    folder = several_run(tmp_path_factory.mktemp("several") / "run-of-three")
    report.build(folder)
    return folder


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "report")
    return tmp_path / "run"


@pytest.fixture
def overview_only(monkeypatch):
    """Leave the findings' own pages as they are: they have tests of their own, and take their time."""
    monkeypatch.setattr(report.report, "build", lambda folder: folder / "report" / "index.html")


def rebuilt(folder):
    return report.build(folder).read_text("utf-8")


def test_every_finding_gets_the_ordinary_report_and_the_run_an_overview(built):
    for finding in FINDINGS:
        own = built / "findings" / finding / "report"
        assert f"for {finding} from" in words_of((own / "index.html").read_text("utf-8"))
        assert (own / "model_card.md").is_file() and (own / "checklists.html").is_file()
    assert (built / "report" / "audit.html").is_file()
    assert not (built / "report" / "checklists.html").exists()  # those of the findings are enough


def test_the_overview_is_one_offline_page_whose_links_lead_somewhere(built):
    raw = page_of(built)
    assert stands_alone(raw) and says_nothing_broken(raw)
    links = [link.partition("#")[0] for link in re.findall(r'href="([^"#:][^":]*)"', raw)]
    assert len(links) >= 2 * len(FINDINGS)
    assert all((built / "report" / link).resolve().is_file() for link in links)
    assert "#0101" not in raw and "#0202" not in raw  # every stand-in became a CSS variable


def test_the_headline_is_the_mean_and_names_the_weakest(built):
    last, text = rows_of(built / "metrics.jsonl")[-1], words_of(page_of(built))
    scores, weakest = last["holdout"], last["holdout"]["per_class"]["nodule"]
    mean = f"{scores['auroc']:.3f}"
    assert f"Mean AUROC {mean} over 3 findings from {last['num_expert']} expert readings" in text
    low, high = weakest["auroc_ci95"]
    assert f"The weakest is nodule, AUROC {weakest['auroc']:.3f} (95% interval {low:.3f}–{high:.3f})" in text
    assert "The intervals are not simultaneous" in text and "The mean hides the weakest" in text


def test_the_table_repeats_every_number_the_weakest_first(built):
    rows = table_under(page_of(built), "Findings")
    own = rows_of(built / "metrics.jsonl")[-1]["findings"]
    assert [row[0].partition("of holdout")[0] for row in rows] == ["nodule", "effusion", "mass"]
    ids = sorted(set(LABELS.read(built)["image_id"].to_pylist()))
    for row, finding in zip(rows, ("nodule", "effusion", "mass"), strict=True):
        metrics = own[finding]["holdout"]["per_class"][finding]
        said = [said_of(number, finding) for number in range(len(ids))]
        low, high = metrics["auroc_ci95"]
        assert row[1] == f"{metrics['auroc']:.3f}{low:.3f}–{high:.3f}"
        assert row[2].startswith(f"{100 * metrics['sensitivity']:.1f}%")
        assert row[3].startswith(f"{100 * metrics['specificity']:.1f}%")
        assert row[4:9] == [
            str(metrics["tp"] + metrics["fn"]),
            str(metrics["tn"] + metrics["fp"]),
            str(said.count(1.0)),
            str(said.count(0.0)),
            str(sum(np.isnan(said))),
        ]
        assert row[9] == str(own[finding]["num_pseudo"])
        assert row[10] == f"{np.floor(1000 * own[finding]['pseudo_precision_certified']) / 10:.1f}%"
        assert row[11] == "caution"
    assert rows[0][8] != "0"  # the fixture leaves some nodules unknown


@pytest.mark.parametrize(
    ("positive", "negative", "marked"), [(9, 30, "9 with it"), (9, 8, "9 with it and 8 without it"), (10, 10, None)]
)
def test_a_finding_with_too_few_holdout_scans_is_marked_in_words(copy, overview_only, positive, negative, marked):
    def edit(row):
        counts = {"tp": positive - 1, "fn": 1, "fp": 3, "tn": negative - 3, "num_positive": positive}
        row["holdout"]["per_class"]["mass"].update(counts)

    change(copy, "mass", edit)
    named = next(row[0] for row in table_under(rebuilt(copy), "Findings") if row[0].startswith("mass"))
    assert named == (f"massof holdout scans only {marked}: too few to judge by" if marked else "mass")


def test_the_dots_and_the_curve_are_drawn_with_words(copy, drawn):
    report.build(copy)
    raw = page_of(copy)
    assert raw.count('class="chart"') == 2
    assert len(re.findall(r'role="img" aria-label="[^"]{20,}"', raw)) == 2
    dots = raw.split('class="chart"')[1]
    assert [dots.index(f">{finding}<") for finding in ("nodule", "effusion", "mass")] == sorted(
        dots.index(f">{finding}<") for finding in FINDINGS
    )


def test_the_rounds_show_the_mean_beside_that_of_random_draws(built):
    table_rows, metrics = table_under(page_of(built), "Rounds"), rows_of(built / "metrics.jsonl")
    random = [rows_of(part / "reference.jsonl") for part in finding_folders.parts_in(built).values()]
    for index, (shown, row) in enumerate(zip(table_rows, metrics, strict=True)):
        theirs = np.mean([course[index]["holdout"]["auroc"] for course in random])
        weakest = row["holdout"]["per_class"]["nodule"]["auroc"]
        assert shown[:6] == [
            str(row["round"]),
            str(row["num_expert"]),
            f"{row['num_pseudo']:,}",
            "3 of 3",
            f"{row['holdout']['auroc']:.3f}",
            f"{theirs:.3f}",
        ]
        assert shown[8:] == [f"{weakest:.3f}", "nodule", ""]


def test_a_random_draw_is_compared_over_the_findings_that_both_scored(copy, overview_only):
    path = finding_folders.parts_in(copy)["mass"] / "reference.jsonl"
    rows = rows_of(path)
    write_rows(path, [*rows[:-1], rows[-1] | {"holdout": None}])
    raw = rebuilt(copy)
    last = rows_of(copy / "metrics.jsonl")[-1]["holdout"]["per_class"]
    ours = np.mean([last[f]["auroc"] for f in ("effusion", "nodule")])
    assert f"against {ours:.3f} here over the 2 findings that both could score" in words_of(raw)
    assert [row[5] for row in table_under(raw, "Rounds")][-1] == "–"  # not a mean of the same findings
    path.unlink()
    assert "over the 2 findings" in words_of(rebuilt(copy))
    for part in finding_folders.parts_in(copy).values():
        (part / "reference.jsonl").unlink(missing_ok=True)
    assert "No random draw on the same budget was run" in words_of(rebuilt(copy))


def test_pairs_of_findings_are_counted_in_the_experts_answers(built):
    num = len(set(LABELS.read(built)["image_id"].to_pylist()))
    scans = [{f for f in FINDINGS if said_of(number, f) == 1.0} for number in range(num)]
    rows = {row[0]: row[1:] for row in table_under(page_of(built), "Findings seen together")}
    assert set(rows) == set(FINDINGS)
    order = list(rows)
    for a in order:
        seen = sum(a in scan for scan in scans)
        for b, cell in zip(order, rows[a], strict=True):
            both = sum({a, b} <= scan for scan in scans)
            assert cell == (str(seen) if a == b else f"{both}{100 * both / seen:.0f}%")
    unknown = [any(np.isnan(said_of(n, f)) for f in FINDINGS) for n in range(num)]
    none = sum(not scan and not open_ for scan, open_ in zip(scans, unknown, strict=True))
    left = sum(not scan and open_ for scan, open_ in zip(scans, unknown, strict=True))
    several, one = sum(len(scan) > 1 for scan in scans), sum(len(scan) == 1 for scan in scans)
    assert f"{several} show several findings, {one} one, {none} none of them; of {left} not" in words_of(page_of(built))


def test_only_training_scans_count_as_the_experts_answers(copy, overview_only):
    before = {row[0]: row[6:9] for row in table_under(rebuilt(copy), "Findings")}
    splits = SPLIT_TABLE.read(copy).to_pylist()
    moved = LABELS.read(copy)["image_id"][0].as_py()
    rows = [row | {"split": "holdout"} if row["image_id"] == moved else row for row in splits]
    SPLIT_TABLE.write(copy, SPLIT_TABLE.empty().from_pylist(rows, SPLIT_TABLE.schema))
    after = {row[0]: row[6:9] for row in table_under(rebuilt(copy), "Findings")}
    assert all(sum(map(int, before[f])) - sum(map(int, after[f])) == 1 for f in before)


def test_a_run_that_waits_for_its_first_labels(copy, overview_only):
    for folder in (copy, *finding_folders.parts_in(copy).values()):
        for name in ("metrics.jsonl", "reference.jsonl", "predictions.parquet", "labels.parquet"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "rounds" / "02")
    (copy / "status.json").write_text(json.dumps({"state": "waiting", "stage": "rounds", "round": 1}))
    raw = rebuilt(copy)
    text = words_of(raw)
    assert "This run has no finished round yet" in text
    assert "Round 1 asks the experts to read 20 scans; 20 scans still wait for an answer" in text
    assert "AUROC 0" not in text and 'class="chart"' not in raw
    assert [row[0] for row in table_under(raw, "Findings")] == [f"{f}no round has finished" for f in FINDINGS]
    assert stands_alone(raw) and says_nothing_broken(raw)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.0, "absent from all 40 scans read"),
        (1.0, "present in all 40 scans read"),
        (float("nan"), "no expert has said"),
    ],
)
def test_a_finding_without_a_classifier_says_so_in_its_row(copy, overview_only, value, why):
    nothing = {"holdout": None, "temperature": None, "pseudo_precision_certified": None, "num_pseudo": 0}
    change(copy, "mass", lambda row: row.update(nothing))
    write_labels(copy, FINDINGS, lambda number, f: value if f == "mass" else said_of(number, f))
    raw = rebuilt(copy)
    last = table_under(raw, "Findings")[-1]
    assert last[0].startswith(f"massno classifier yet: {why}")
    assert last[1:6] == ["–"] * 5
    text = words_of(raw)
    assert "over 2 findings" in text and "Not scored: mass." in text and "Findings scored 2 of 3" in text
    assert says_nothing_broken(raw)


def test_without_answers_about_the_holdout_nothing_is_claimed(copy, overview_only):
    for finding, part in finding_folders.parts_in(copy).items():
        write_rows(part / "metrics.jsonl", [row | {"holdout": None} for row in rows_of(part / "metrics.jsonl")])
        labels = POOL_LABELS.read(part).to_pylist()
        blank = [row | {"label": None} for row in labels]
        POOL_LABELS.write(part, POOL_LABELS.empty().from_pylist(blank, POOL_LABELS.schema))
        assert finding in FINDINGS
    write_metrics(copy)
    raw = rebuilt(copy)
    text = words_of(raw)
    assert "the sealed holdout has no scores yet" in text and "cannot say how good the model is" in text
    assert "AUROC 0" not in text and 'class="chart"' not in raw
    assert all("not scored: no holdout scan has an answer" in row[0] for row in table_under(raw, "Findings"))
    assert stands_alone(raw) and says_nothing_broken(raw)


def test_a_holdout_that_never_shows_a_finding_is_named(copy, overview_only):
    def edit(row):
        own = row["holdout"]["per_class"]["mass"]
        own.update(tp=0, fn=0, num_positive=0, auroc=None, auroc_ci95=None, sensitivity=None, sensitivity_ci95=None)
        row["holdout"].update(auroc=None, sensitivity=None, sensitivity_ci95=None)

    change(copy, "mass", edit)
    rows = table_under(rebuilt(copy), "Findings")
    assert rows[-1][0] == "massnot scored: no holdout scan shows it"
    assert [row[0].startswith("mass") for row in rows] == [False, False, True]


def test_one_finding_alone(tmp_path, overview_only):
    folder = several_run(tmp_path / "run", findings=("effusion",), num_rounds=1)
    raw = rebuilt(folder)
    text = words_of(raw)
    auroc = rows_of(folder / "metrics.jsonl")[-1]["holdout"]["per_class"]["effusion"]["auroc"]
    assert f"AUROC {auroc:.3f} for effusion from 20 expert readings" in text
    assert "The weakest is" not in text and "hides the weakest." not in text
    assert "There is one finding only" in text
    assert stands_alone(raw) and says_nothing_broken(raw)


def test_who_labelled_and_how_far_they_agree_on_each_finding(copy, overview_only):
    def measure(value, ci95):
        return {"kind": "share", "value": value, "ci95": ci95, "num_scans": 31, "num_readings": 62, "num_groups": 30}

    someone = {"annotator": "dr-a", "num_answers": 60, "num_rejected": 1, "num_unsure": 4, "seconds_per_scan": 30.0}
    for finding, part in finding_folders.parts_in(copy).items():
        kappa = measure(None, None) if finding == "mass" else measure(0.712, [0.5, 0.86])
        again = {"share": measure(0.93, [0.85, 0.97]), "fleiss": kappa, "krippendorff": kappa}
        suspect = {"annotator": "dr-b", "agreement": 0.6, "others": 0.9, "num_scans": 31}
        again["suspects"] = [suspect] if finding == "nodule" else []
        (part / "agreement.json").write_text(json.dumps({"annotators": [someone], "agreement": again}))
    told = {"annotators": [someone], "rejections": {"bad quality": 2}, "num_not_blind": 3}
    (copy / "agreement.json").write_text(json.dumps(told))
    raw = rebuilt(copy)
    assert table_under(raw, "Annotators") == [["dr-a", "60", "4", "1", "30 s"]]
    rows = {row[0]: row[1:] for row in table_under(raw, "Agreement")}
    assert rows["effusion"] == ["31", "93.0%85.0–97.0%", "0.7120.500–0.860", "0.7120.500–0.860"]
    assert rows["mass"][2:] == ["–", "–"]
    assert "dr-b stands out on nodule" in words_of(raw)
    assert "2 scans: bad quality. They train and test nothing." in words_of(raw)
    assert "3 answers were given by annotators who could see why a scan was chosen" in words_of(raw)
    assert "reading time, about 30 min" in words_of(raw)


def test_cautions_that_hold_for_all_stand_once_and_others_on_their_page(copy):
    found = gather.read(copy, finding_folders.parts_in(copy))
    said = page.cautions(found)
    assert said[0].startswith("Research use only") and len(set(said)) == len(said)
    assert sum("No expert took part" in text for text in said) == 1
    own = {text for part in found.parts for text in part.cautions if part.finding in text}
    assert own and not own & set(said)


def test_the_model_card_names_the_findings_that_shared_a_network(copy):
    found = gather.read(copy, finding_folders.parts_in(copy))
    assert "One network learned" not in model_card.card(found)
    parts = [replace(part, row=part.row | {"network_findings": list(FINDINGS[:2])}) for part in found.parts]
    text = model_card.card(replace(found, parts=parts))
    assert f"One network learned {FINDINGS[0]} and {FINDINGS[1]} at once, with a sigmoid for each" in text


def test_the_model_card_has_one_head_and_a_section_for_each_finding(built):
    card = (built / "report" / "model_card.md").read_text("utf-8")
    assert re.findall(r"^# .+$", card, re.MULTILINE) == ["# Model card: run-of-three"]
    assert [f"## Finding: {f}" for f in FINDINGS] == re.findall(r"^## Finding: .+$", card, re.MULTILINE)
    assert card.count("# Intended use") == 1 and card.count("# Data\n") == 1
    assert card.count("### Performance on the sealed holdout") == len(FINDINGS)
    assert "scans with several of them" not in card  # an ordinary card puts them out of scope
    scores = rows_of(built / "metrics.jsonl")[-1]["holdout"]["per_class"]
    for finding in FINDINGS:
        section = card.partition(f"## Finding: {finding}")[2].partition("## Finding:")[0]
        assert f"| AUROC | {scores[finding]['auroc']:.3f} |" in section


def test_the_same_run_gives_the_same_bytes(built, overview_only):
    before = {p.name: p.read_bytes() for p in (built / "report").iterdir()}
    assert {"index.html", "model_card.md", "audit.html"} <= set(before)
    report.build(built)
    assert {p.name: p.read_bytes() for p in (built / "report").iterdir()} == before


def test_hostile_names_are_escaped(tmp_path, overview_only):
    strange = HOSTILE.replace("|", "")
    folder = several_run(tmp_path / "run", findings=(strange, "$x$ ](http://a)"), num_rounds=1)
    raw = rebuilt(folder)
    assert "<script>alert" not in raw and "&lt;script&gt;alert" in raw
    assert stands_alone(raw.replace("http://a", ""))
    assert "<script>" not in (folder / "report" / "model_card.md").read_text("utf-8").replace("\\<", "")


def test_the_stage_logs_that_the_holdout_was_read_for_every_finding(copy, overview_only):
    seen = []
    ctx = type("Ctx", (), {"folder": copy, "progress": staticmethod(lambda *said: seen.append(said))})
    counts = report.run(ctx)
    assert counts == {"bytes": len(page_of(copy).encode()), "num_findings": 3}
    assert seen[-1] == ("report", 3, 3)
    for folder in (copy, *finding_folders.parts_in(copy).values()):
        assert rows_of(folder / "holdout_access.jsonl")[-1]["reader"] == "report"


def test_a_run_without_findings_folders_is_refused(tmp_path):
    with pytest.raises(RunDirError, match="no folders yet"):
        report.build(tmp_path)
