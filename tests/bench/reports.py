"""Radiology reports as labels: on Open-I's real ones, the cover of the learned error, and labels saved on phantoms.

Shapes: N reports, T scans of the training pool, C classes.
"""

import tarfile
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.baselines.curves import asking, bench_pool, holdout_scores, pseudo_curve
from pipeline.baselines.curves.bench_pool import BenchPool
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.healthy_class import healthy_among
from pipeline.contracts.options.labelling import ReportsConfig
from pipeline.learn import self_training
from pipeline.learn.material import SoftLabels
from pipeline.measures.certify import lower_bound
from pipeline.pool.sets.public_set import UNKNOWN
from pipeline.pool.sets.readers.openi import HEADINGS, row_of
from pipeline.radiology_reports import labeler, learned_errors, rules
from pipeline.radiology_reports.labeler import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from pipeline.radiology_reports.proposals import Kind, one_class_a_scan, proposals
from pipeline.radiology_reports.soft_labels import FromReports
from pipeline.runtime.engine import SerialEngine
from tests.bench import forecast, tables
from tests.support import public_sets

OPTIONS = ReportsConfig()
NUM_UNIFORM, NUM_ASKED = 500, 60  # labels of a uniform slice; checks among reports that say present
PEER = {"Cardiomegaly": ".97 / .90", "Pleural Effusion": ".78 / .97", "Pneumonia": ".45 / .93"}
BUDGETS = (20, 40, 60, 80, 100, 140, 180)
SOURCES = {"none": None, "good": 0.9, "bad": 0.6}  # precision of the reports planted
OPENI_HEADER = (
    "finding",
    "reports that show it",
    "say present",
    "precision",
    "recall",
    "forty lines of rules: precision / recall",
    "uncertain",
    "negative predictive value: absent",
    "not mentioned",
    f"after {NUM_UNIFORM} uniform labels: checks of present",
    "bound",
    "used",
    f"after {NUM_ASKED} checks drawn from present: bound",
    "used",
)
OPENI_NOTES = """\
{num:,} reports with headings, of the 3,955; a report counts for what its coders' headings (MeSH) name. The English
rules were written with an eye on mistakes in every third report, which are left out here (for effusion 25 mistakes of
all reports had been looked at). Cues, lists and headings were amended later for sentences that a reviewer made up, and
where a statement begins inside a sentence by rules of the literature and the same third, without a look at these
reports. Precision is of reports that say *present*, recall counts *uncertain* as missed;
intervals are exact, 95 %. Predictive values are shares of reports that coders agree with. The bound is what
`cxr-ssl` holds valid at every look; median over {seeds} draws of the checks, and behind it the share of draws in which
*present* is used at `reports.min_precision` {promise:.0%}. Few reports name a rare finding, so {uniform} uniform labels
hardly ever check it: that is what the slice drawn from what reports say is for (`reports.check_share`); a finding with
fewer reports than checks is checked in full. On all reports with headings: {everything}. The rules of the
forty lines are not ours; their figures are as reported."""
COVER_HEADER = (
    "planted precision",
    "scans that reports call it",
    "checks",
    "bound above the truth, %",
    "used at .80, %",
)
COVER_NOTES = """\
Phantoms whose reports are wrong as planted; checks drawn uniformly from the pool, ten looks, one after every tenth of
them. The bound counts as wrong if it lies above the true precision of the pool at any of the looks; {sims:,}
histories a row, exact 95 % intervals. Nominal: at most 5 %."""
SAVED_HEADER = (
    "expert labels",
    "AUROC without reports",
    "with reports right in 9 of 10",
    "gain",
    "with reports right in 6 of 10",
    "gain",
    "scans told by the good ones",
)
SAVED_NOTES = """\
Phantoms ({num_train} scans to learn from, {num_holdout} sealed), {seeds} seeds; ± is a 95 % interval over seeds, of a
gain that of the paired difference. Labels are drawn uniformly, but with reports a fifth of each step is drawn from what
reports say and nobody has checked enough. Reports name a finding in 9 of 10 scans that show it, in so many others that
the planted share of them is right, and deny it in half of the rest; both sources go through the same gate. {saved}"""


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/reports-*.md`."""
    if public_sets.DATA is None:
        raise SystemExit(public_sets.MISSING)
    _open_i(given.seeds)
    path = forecast.pool_file(data, "phantom", cache_folder() / "bench" / "forecast", SerialEngine())
    _cover(bench_pool.load(path))
    _saved(path, given.seeds)


# --- Open-I -----------------------------------------------------------------------------------------------------------


@cache
def open_i() -> tuple[list[dict[str, str]], np.ndarray]:
    """What the rules say of each report, by finding of the rules; and what its headings say (N, F) of `HEADINGS`."""
    english, said, shown = rules.load("en"), [], []
    for report in _reports():
        sections = {part.get("Label"): part.text or "" for part in report.findall(".//AbstractText")}
        text = "\n".join(f"{name}: {sections.get(name, '')}" for name in ("INDICATION", "FINDINGS", "IMPRESSION"))
        said.append({name: one.says for name, one in labeler.read_report(text, english).items()})
        shown.append(row_of([heading.text or "" for heading in report.findall(".//MeSH/major")]))
    return said, np.array(shown)


def _reports() -> Iterator[ElementTree.Element]:
    with tarfile.open(public_sets.DATA / public_sets.TABLES["openi"][0]) as archive:
        for entry in archive:
            stream = archive.extractfile(entry) if entry.name.endswith(".xml") else None
            if stream is not None:
                yield ElementTree.fromstring(stream.read())


def _open_i(seeds: int) -> None:
    said, shown_NF = open_i()
    unseen_N = (np.arange(len(said)) % 3 != 0) & (shown_NF != UNKNOWN).any(axis=1)
    known_N = (shown_NF != UNKNOWN).any(axis=1)
    english, rows, everything = rules.load("en"), [], []
    for f, finding in enumerate(HEADINGS):
        own = english.for_class(finding)
        if own is None:
            continue
        says_N = np.array([one[own.name] for one in said])
        rows.append(_row(finding, says_N[unseen_N], shown_NF[unseen_N, f] == 1, seeds))
        if finding in PEER:
            told, truth = says_N[known_N] == PRESENT, shown_NF[known_N, f] == 1
            everything.append(
                f"{finding.lower()} {(told & truth).sum() / told.sum():.2f} / {truth[told].sum() / truth.sum():.2f}"
            )
    notes = OPENI_NOTES.format(
        num=int(unseen_N.sum()),
        seeds=seeds,
        promise=OPTIONS.min_precision,
        uniform=NUM_UNIFORM,
        everything=", ".join(everything),
    )
    command = f"python -m tests.bench reports --seeds {seeds}"
    tables.write("reports-openi", "Rules for reports against the coders of Open-I", command, OPENI_HEADER, rows, notes)


def _row(finding: str, says_N: np.ndarray, shown_N: np.ndarray, seeds: int) -> tuple[Any, ...]:
    present_N = says_N == PRESENT
    uniform = [_learned(says_N, shown_N, np.random.default_rng(seed), NUM_UNIFORM) for seed in range(seeds)]
    asked = [_learned(says_N, shown_N, np.random.default_rng(seed), NUM_ASKED, present_N) for seed in range(seeds)]
    return (
        finding,
        f"{shown_N.sum():,}",
        f"{present_N.sum():,}",
        _share((present_N & shown_N).sum(), present_N.sum()),
        _share((present_N & shown_N).sum(), shown_N.sum()),
        PEER.get(finding, "–"),
        f"{(says_N == UNCERTAIN).sum():,}",
        *(_share(((says_N == says) & ~shown_N).sum(), (says_N == says).sum()) for says in (ABSENT, NOT_MENTIONED)),
        f"{np.median([one.num_checked for one in uniform]):.0f}",
        *_verdict(uniform),
        *_verdict(asked),
    )


def _learned(
    says_N: np.ndarray, shown_N: np.ndarray, rng: np.random.Generator, num: int, among_N: np.ndarray | None = None
) -> learned_errors.LearnedError:
    """The learned error of *present* after a number of checks, drawn from all reports or from some."""
    rows = np.arange(len(says_N)) if among_N is None else np.flatnonzero(among_N)
    checks = [str(row) for row in rng.permutation(rows)[:num]]
    classes = ("absent", "present")
    answers = {row: classes[int(shown_N[int(row)])] for row in checks}
    kind = Kind("rules en", 1, PRESENT)
    scans = [str(row) for row in np.flatnonzero(says_N == PRESENT)]
    return learned_errors.learn({kind: scans}, checks, answers, classes, OPTIONS)[0]


def _verdict(learned: list[learned_errors.LearnedError]) -> tuple[str, str]:
    used = sum(one.is_used for one in learned)
    return f"{np.median([one.bound for one in learned]):.2f}", f"{used} of {len(learned)}"


def _share(part: int, whole: int) -> str:
    """A share with its exact 95 % interval."""
    if not whole:
        return "–"
    low, high = lower_bound(int(part), int(whole), 0.975), 1 - lower_bound(int(whole - part), int(whole), 0.975)
    return f"{part / whole:.2f} ({low:.2f}–{high:.2f})"


# --- phantoms with planted reports ------------------------------------------------------------------------------------


def planted(pool: BenchPool, precision: float, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Reports of the training pool, right with a precision where they name a finding: what they say, by scan."""
    healthy = healthy_among(pool.findings)
    said: dict[str, dict[str, str]] = {str(row): {} for row in range(len(pool.class_T))}
    for c, finding in enumerate(pool.findings):
        if finding in healthy:
            continue
        shows_T = pool.class_T == c
        right_T = shows_T & (rng.random(len(shows_T)) < 0.9)
        num_wrong = round(right_T.sum() * (1 - precision) / precision)
        others = np.flatnonzero(~shows_T)
        present_T = right_T.copy()
        present_T[rng.choice(others, min(num_wrong, len(others)), replace=False)] = True
        denied_T = ~present_T & (rng.random(len(shows_T)) < 0.5)
        for row in range(len(shows_T)):
            said[str(row)][finding] = PRESENT if present_T[row] else ABSENT if denied_T[row] else NOT_MENTIONED
    return said


def _cover(pool: BenchPool, num_sims: int = 1000) -> None:
    """How often the bound lies above the truth, and how often the source is used."""
    rows = []
    ill = next(c for c, finding in enumerate(pool.findings) if finding not in healthy_among(pool.findings))
    kind = Kind("rules en", 1, PRESENT)
    for precision in (0.6, 0.75, 0.85, 0.95, 0.99):
        rng, wrong, used, num_checks, num_said = np.random.default_rng(0), 0, 0, [], []
        for _ in range(num_sims):
            said = planted(pool, precision, rng)
            scans = [row for row, one in said.items() if one[pool.findings[ill]] == PRESENT]
            answers = {row: str(pool.class_T[int(row)] == ill) for row in said}
            truth = sum(answers[row] == "True" for row in scans) / len(scans)
            drawn = [str(row) for row in rng.permutation(len(said))[:300]]
            looks = [
                learned_errors.learn({kind: scans}, drawn[:n], answers, ("False", "True"), OPTIONS)[0]
                for n in range(30, 301, 30)
            ]
            wrong += any(look.bound > truth for look in looks)
            used += looks[-1].is_used
            num_checks.append(looks[-1].num_checked)
            num_said.append(len(scans))
        rows.append(
            (
                f"{precision:.2f}",
                f"{np.mean(num_said):.0f}",
                f"{np.mean(num_checks):.0f}",
                _percent(wrong, num_sims),
                _percent(used, num_sims),
            )
        )
    notes = COVER_NOTES.format(sims=num_sims)
    tables.write(
        "reports-cover",
        "The learned error of reports covers the truth",
        "python -m tests.bench reports",
        COVER_HEADER,
        rows,
        notes,
    )


def _percent(part: int, whole: int) -> str:
    low, high = lower_bound(part, whole, 0.975), 1 - lower_bound(whole - part, whole, 0.975)
    return f"{100 * part / whole:.1f} ({100 * low:.1f}–{100 * high:.1f})"


# --- labels saved -----------------------------------------------------------------------------------------------------


def _saved(path: Path, seeds: int) -> None:
    """AUROC on the holdout by expert labels, without reports and with good and bad ones."""
    pool = bench_pool.load(path)
    curves = {name: [_curve(path, precision, seed) for seed in range(seeds)] for name, precision in SOURCES.items()}
    auroc = {name: np.array([[auroc for auroc, _ in curve] for curve in of_seeds]) for name, of_seeds in curves.items()}
    told = np.mean([[num for _, num in curve] for curve in curves["good"]], axis=0)
    rows = []
    for i, budget in enumerate(BUDGETS):
        cells = [tables.mean_ci(auroc["none"][:, i])]
        for name in ("good", "bad"):
            cells += [tables.mean_ci(auroc[name][:, i]), tables.mean_ci(auroc[name][:, i] - auroc["none"][:, i])]
        rows.append((budget, *cells, f"{told[i]:.0f}"))
    notes = SAVED_NOTES.format(
        num_train=len(pool.class_T), num_holdout=len(pool.class_H), seeds=seeds, saved=_in_words(auroc)
    )
    command = f"python -m tests.bench reports --seeds {seeds}"
    tables.write("reports-saved", "Labels that reports save on phantoms", command, SAVED_HEADER, rows, notes)


def _in_words(auroc: dict[str, np.ndarray]) -> str:
    """From how many labels on the mean with reports reaches what each number of labels reaches without them."""
    without_B, with_B = auroc["none"].mean(axis=0), auroc["good"].mean(axis=0)
    reached = [(budget, np.flatnonzero(with_B >= level)) for budget, level in zip(BUDGETS, without_B, strict=True)]
    told = [f"{BUDGETS[rows[0]] if len(rows) else 'more than ' + str(BUDGETS[-1])} for {n}" for n, rows in reached]
    return f"Labels with the good reports that reach the mean AUROC of labels without any: {', '.join(told)}."


def _curve(path: Path, precision: float | None, seed: int) -> list[tuple[float, int]]:
    """AUROC, and scans that reports taught, after each budget; `precision` None: no reports."""
    history = pseudo_curve.WayHistory(
        pool=path,
        name="phantom",
        rare=None,
        strategy="random",
        seed=seed,
        budgets=BUDGETS,
        config=Config(),
        way="average",
    )
    pool, rng = history.open_pool(), history.rng("reports")
    scans = pseudo_curve._Scans.of(pool, history)
    said = {"rules": planted(pool, precision, rng)} if precision is not None else {}
    of_kind = proposals(said, pool.findings, None)
    order_T = [int(row) for row in history.rng("order").permutation(len(pool.class_T))]
    asked: list[int] = []
    curve = []
    for budget in BUDGETS:
        learned = _errors(pool, of_kind, asked)
        to_check = {int(i) for one in learned if one.verdict == learned_errors.TOO_FEW for i in of_kind[one.kind]}
        num = budget - len(asked)
        checks = [row for row in order_T if row in to_check and row not in asked]
        asked += checks[: round(OPTIONS.check_share * num)]
        asked += [row for row in order_T if row not in asked][: budget - len(asked)]
        curve.append(_score(pool, scans, history, np.array(asked), of_kind))
    return curve


def _errors(pool: BenchPool, of_kind: dict[Kind, list[str]], asked: list[int]) -> list[learned_errors.LearnedError]:
    answers = {str(row): pool.findings[pool.class_T[row]] for row in asked}
    return learned_errors.learn(of_kind, list(answers), answers, pool.findings, OPTIONS)


def _score(
    pool: BenchPool,
    scans: Any,
    history: pseudo_curve.WayHistory,
    rows_L: np.ndarray,
    of_kind: dict[Kind, list[str]],
) -> tuple[float, int]:
    asked = asking.Asked(pool, rows_L, np.ones(len(rows_L), bool), history.config)
    material = replace(scans.material(asked), reports=_soft(pool, of_kind, rows_L.tolist()))
    num_classes = len(pool.findings)
    rng = history.rng(f"learn/{len(rows_L)}")
    learned = self_training.learn(material, history.config, SerialEngine(), num_classes, [True] * num_classes, rng)
    prob_HC = learned.classifier(pool.findings).probabilities(learned.student_logit_NC[len(pool.class_T) :])
    num = 0 if material.reports is None else int((material.reports.weight_T[material.open_T] > 0).sum())
    return holdout_scores.score(prob_HC, prob_HC.argmax(1), pool.class_H).auroc, num


def _soft(pool: BenchPool, of_kind: dict[Kind, list[str]], asked: list[int]) -> SoftLabels | None:
    """What the reports that are used teach, as a round takes it."""
    good = sorted((one for one in _errors(pool, of_kind, asked) if one.is_used), key=lambda one: -one.bound)
    precision = {one.kind: one.precision or 0.0 for one in good}
    chosen = one_class_a_scan(of_kind, [one.kind for one in good])
    used = {image_id: (kind.class_index, precision[kind]) for image_id, kind in chosen.items()}
    ids = [str(row) for row in range(len(pool.class_T))]
    target_TC, weight_T = FromReports(used=used).targets(ids, len(pool.findings), OPTIONS.weight)
    return SoftLabels(target_TC, weight_T) if used else None
