"""What several readers said of the same scans: agreement, one class for training, and what deserves a second look.

The measures are in `agreement.py` and `consensus.py`; here they meet the label table and a run's files. N scans, M
annotators, C classes.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import agreement, consensus, labels
from pipeline.agreement import TwoReaders
from pipeline.annotators import worklist
from pipeline.annotators.handouts import PREANNOTATED
from pipeline.answers import REJECTIONS
from pipeline.contracts import PREDICTIONS, SPLIT_TABLE, write_text
from pipeline.journal import Given, Journal
from pipeline.queues import BLIND_CHECKS, DISPUTE, DOUBT, SECOND_LOOKS
from pipeline.rollback import OOF
from pipeline.several.layout import whole_of

AGREEMENT = "agreement.json"
NUM_BOOTSTRAP = 1000
MAX_DISPUTES = 2  # times a dispute is asked again: whom nobody can settle, nobody can
MAX_DOUBTS = 20  # labels worth a second look that are listed; the first ones are the likely ones


@dataclass(frozen=True)
class Readings:
    """Answers of people as numbers.

    Attributes:
        ids_N: Scans any of them answered, sorted.
        annotators: M names, sorted.
        first_NM: Class index of each annotator's first answer, given blind and not because others disagreed, or the
            model did; -1 = none. Independent readings.
        latest_NM: Of her latest answer.
    """

    ids_N: tuple[str, ...]
    annotators: tuple[str, ...]
    first_NM: np.ndarray
    latest_NM: np.ndarray


@dataclass(frozen=True)
class Heard:
    """What the experts have said so far, as a round takes it.

    Attributes:
        answers: Class by majority of every answered scan, else None. Holdout and certificates rest on it.
        training: The same, where readers differ on a training scan by CROWDLAB: what the classifier learns from.
        rejected: Scans held to be no good, with the reason.
    """

    answers: dict[str, str | None]
    training: dict[str, str | None]
    rejected: dict[str, str]


def hear(folder: Path, table: pa.Table, findings: Sequence[str], round_index: int) -> Heard:
    """What the label table says up to a round."""
    answers = labels.expert_classes(table, findings, round_index)
    training = training_classes(folder, table, answers, findings, round_index)
    return Heard(answers, training, labels.rejections(table, round_index))


def of_people(folder: Path, table: pa.Table, findings: Sequence[str], up_to_round: int | None = None) -> Readings:
    """The readings of a label table; an answer that names no class is no reading."""
    people = labels.people_rows(table)
    if up_to_round is not None:
        people = people.filter(pc.less_equal(people["round"], up_to_round))
    frame = people.select(["image_id", "annotator", "round", "reply"]).to_pandas()
    ids = tuple(sorted(set(frame["image_id"])))
    names = tuple(sorted(set(frame["annotator"])))
    row = {image_id: n for n, image_id in enumerate(ids)}
    column = {name: m for m, name in enumerate(names)}
    index = {finding: c for c, finding in enumerate(findings)}
    first_NM = np.full((len(ids), len(names)), -1, dtype=np.int64)
    latest_NM = first_NM.copy()
    begun: dict[tuple[str, str], int] = {}
    steered = _steered(folder)
    for image_id, annotator, round_index, reply in frame.itertuples(index=False, name=None):
        place = row[image_id], column[annotator]
        latest_NM[place] = index.get(reply, -1)
        first = begun.setdefault((image_id, annotator), round_index) == round_index
        if first and (image_id, round_index) not in steered:
            first_NM[place] = latest_NM[place]
    return Readings(ids, names, first_NM, latest_NM)


def _steered(folder: Path) -> set[tuple[str, int]]:
    """Scan and round of every reading that was not independent: a second look, or shown with the model's answer."""
    found = {(i, r) for i, r, kind in worklist.asks_of(folder) if kind in SECOND_LOOKS}
    for path in ((whole_of(folder) or folder) / "rounds").glob(f"*/{PREANNOTATED}"):
        found |= {(image_id, int(path.parent.name)) for image_id in json.loads(path.read_text("utf-8"))}
    return found


def agreement_of(folder: Path, table: pa.Table, findings: Sequence[str], num_bootstrap: int) -> dict[str, Any] | None:
    """How far people agree, with each other and with themselves; None where nobody has answered.

    Returns:
        {"num_annotators","share","fleiss","krippendorff": measures as `agreement.Agreement`; "pairs": [{"annotators",
        "share","cohen"}]; "intra": [{"annotator","share","cohen"}]; "suspects": [{"annotator","agreement","others",
        "gap_ci95","num_scans"}]; "quality": {annotator: CROWDLAB's, 0..1}, empty where it had too little to go by}.
    """
    found = of_people(folder, table, findings)
    if not found.ids_N:
        return None
    group_N = _groups(folder, found.ids_N)
    rng = np.random.default_rng(0)  # the draws of an interval; the same answers give the same one
    every = agreement.overall(found.first_NM, group_N, len(findings), num_bootstrap, rng)
    pairs = [{"annotators": [found.annotators[a], found.annotators[b]]} | _two(t) for (a, b), t in every.pairs.items()]
    suspects = consensus.suspect_annotators(found.first_NM, group_N)
    return {
        "num_annotators": len(found.annotators),
        "share": asdict(every.share),
        "fleiss": asdict(every.fleiss),
        "krippendorff": asdict(every.krippendorff),
        "pairs": [pair for pair in pairs if pair["share"]["num_scans"]],
        "intra": _intra(folder, table, findings, num_bootstrap),
        "suspects": [asdict(s) | {"annotator": found.annotators[s.annotator]} for s in suspects],
        "quality": _quality(folder, found, findings),
    }


def annotators(folder: Path) -> list[dict[str, Any]]:
    """What each person has answered so far, by name.

    Returns:
        [{"annotator","num_answers","num_round" of the latest queue,"num_rejected","num_unsure","seconds_per_scan"}].
    """
    standing, round_index = Journal.open(folder).active(), worklist.latest_round(folder)
    names = sorted({one.answer.annotator for one in standing})
    return [_annotator(name, standing, round_index) for name in names]


def save_summary(folder: Path, table: pa.Table, findings: Sequence[str]) -> None:
    """Write `agreement.json`: who labelled, how far they agree, what they held to be no good."""
    agreed = agreement_of(folder, table, findings, NUM_BOOTSTRAP)
    doubts = _doubts(folder, table, findings, MAX_DOUBTS)
    save_counts(folder, table, len(labels.disagreements(table)), agreement=agreed, doubts=doubts)


def save_counts(
    folder: Path, table: pa.Table, num_disagreements: int, agreement: dict[str, Any] | None = None,
    doubts: Sequence[dict[str, Any]] = (),
) -> None:  # fmt: skip
    """Write `agreement.json` from what is known already; of independent findings the parts tell how far they agree."""
    found = {
        "annotators": annotators(folder),
        "num_disagreements": num_disagreements,
        "rejections": dict(sorted(Counter(labels.rejections(table).values()).items())),
        "agreement": agreement,
        "doubts": list(doubts),
        **_seeing(folder),
    }
    write_text(folder / AGREEMENT, json.dumps(found, indent=1, ensure_ascii=False))


def training_classes(
    folder: Path, table: pa.Table, answers: Mapping[str, str | None], findings: Sequence[str], round_index: int
) -> dict[str, str | None]:
    """The classes a round learns from: `answers`, but where readers differ on a training scan, by CROWDLAB.

    Holdout, prevalence and certificates go on with `answers`: what judges the model is not settled with its help, and
    so are the blind checks here.

    Args:
        folder: Run directory.
        table: The label table.
        answers: By majority, None where there is none.
        findings: C classes.
        round_index: The round that learns; the model of the round before is asked.
    """
    found = of_people(folder, table, findings, round_index)
    differ_N = np.array([len(set(row[row >= 0].tolist())) > 1 for row in found.latest_NM], dtype=bool)
    if not differ_N.any():
        return dict(answers)
    prob_NC = _probabilities(folder, round_index - 1, found.ids_N, findings)
    train_N = _is_train(folder, found.ids_N)
    settled = consensus.consensus(found.latest_NM[train_N], prob_NC[train_N])
    ids = [image_id for image_id, train in zip(found.ids_N, train_N, strict=True) if train]
    blind = {image_id for image_id, _, kind in worklist.asks_of(folder) if kind in BLIND_CHECKS}
    out, left_out = dict(answers), blind | set(labels.rejections(table, round_index))
    for image_id, c, how in zip(ids, settled.class_N, settled.how_N, strict=True):
        if how == consensus.CROWDLAB and image_id not in left_out:
            out[image_id] = findings[c]
    return out


def second_looks(
    folder: Path, table: pa.Table, findings: Sequence[str], num: int, asked: Mapping[str, Collection[str]]
) -> list[tuple[str, str]]:
    """Answered scans that deserve another look in the next queue, each with its kind, at most `num`.

    Disputes come first, those asked least often and those of the holdout before others, each twice at most; then labels
    of the training pool that confident learning finds doubtful by the latest out-of-fold probabilities, each once.
    A blind check is never doubted: to ask again only where the model disagrees would flatter the certificate.

    Args:
        folder: Run directory.
        table: The label table.
        findings: C classes.
        num: Most scans.
        asked: Kinds a scan was asked under in the queues before, with counts.
    """
    people = set(of_people(folder, table, findings).ids_N)
    times = {image_id: Counter(asked.get(image_id, ())) for image_id in people}
    disputes = [i for i in labels.disagreements(table) if i in people and times[i][DISPUTE] < MAX_DISPUTES]
    train = dict(zip(disputes, _is_train(folder, disputes), strict=True))
    disputes.sort(key=lambda image_id: (times[image_id][DISPUTE], train[image_id], image_id))
    looks = [(image_id, DISPUTE) for image_id in disputes]
    left_out = {image_id for image_id in people if {DOUBT, *BLIND_CHECKS} & set(times[image_id])}
    doubts = _doubts(folder, table, findings, num - len(looks), left_out)
    return (looks + [(doubt["image_id"], DOUBT) for doubt in doubts])[:num]


def _doubts(
    folder: Path, table: pa.Table, findings: Sequence[str], num: int, leave_out: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Labels of people that confident learning finds doubtful by the latest out-of-fold probabilities, worst first."""
    if num <= 0:
        return []
    people = set(of_people(folder, table, findings).ids_N) - set(leave_out)
    known = labels.expert_classes(table, findings)
    ids = [image_id for image_id in known if known[image_id] is not None]
    index = {finding: c for c, finding in enumerate(findings)}
    class_N = np.array([index[str(known[i])] if i in people else -1 for i in ids], dtype=np.int64)
    issues = consensus.label_issues(class_N, _out_of_fold(folder, _last_learnt(folder), ids, findings), num)
    return [
        {"image_id": ids[row], "label": findings[label], "model": findings[model], "probability": float(prob)}
        for row, label, model, prob in zip(
            issues.row_I, issues.class_I, issues.model_class_I, issues.model_prob_I, strict=True
        )
    ]


def _seeing(folder: Path) -> dict[str, int]:
    """Answers given by somebody who could see why the scan was chosen, and scans handed out with the model's answer."""
    journal = Journal.open(folder)
    shown = [
        json.loads(path.read_text("utf-8"))
        for path in ((whole_of(folder) or folder) / "rounds").glob(f"*/{PREANNOTATED}")
    ]
    return {
        "num_not_blind": sum(not journal.batches[one.batch].blind for one in journal.active()),
        "num_preannotated": sum(map(len, shown)),
    }


def _quality(folder: Path, found: Readings, findings: Sequence[str]) -> dict[str, float]:
    train_N = _is_train(folder, found.ids_N)
    prob_NC = _probabilities(folder, _last_learnt(folder), found.ids_N, findings)
    quality_M = consensus.consensus(found.first_NM[train_N], prob_NC[train_N]).annotator_quality_M
    return {name: float(q) for name, q in zip(found.annotators, quality_M, strict=True) if np.isfinite(q)}


def _last_learnt(folder: Path) -> int:
    """The latest round with out-of-fold probabilities; 0 before the first."""
    return max((int(path.parent.name) for path in (folder / "rounds").glob(f"*/{OOF}")), default=0)


def _annotator(name: str, standing: list[Given], round_index: int | None) -> dict[str, Any]:
    mine = [one.answer for one in standing if one.answer.annotator == name]
    seconds = [answer.seconds for answer in mine if answer.seconds is not None]
    return {
        "annotator": name,
        "num_answers": len(mine),
        "num_round": sum(answer.round_index == round_index for answer in mine),
        "num_rejected": sum(answer.reply in REJECTIONS for answer in mine),
        "num_unsure": sum(answer.certainty == "unsure" for answer in mine),
        "seconds_per_scan": round(median(seconds), 1) if seconds else None,
    }


def _intra(folder: Path, table: pa.Table, findings: Sequence[str], num_bootstrap: int) -> list[dict[str, Any]]:
    people = labels.people_rows(table).select(["image_id", "annotator", "round", "reply"]).to_pandas()
    steered = _steered(folder)
    people = people[[key not in steered for key in zip(people["image_id"], people["round"], strict=True)]]
    last = people.drop_duplicates(["image_id", "annotator", "round"], keep="last")
    both = last.groupby(["image_id", "annotator"], sort=True)["reply"].agg(["first", "last", "size"])
    both = both[both["size"] > 1].reset_index()
    names = sorted(set(both["annotator"]))
    index = {finding: c for c, finding in enumerate(findings)}
    if not names:
        return []
    found = agreement.intra(
        [index.get(reply, -1) for reply in both["first"]],
        [index.get(reply, -1) for reply in both["last"]],
        [names.index(name) for name in both["annotator"]],
        _groups(folder, both["image_id"].tolist()),
        len(findings),
        num_bootstrap,
        np.random.default_rng(0),
    )
    return [{"annotator": names[who]} | _two(two) for who, two in found.items()]


def _two(two: TwoReaders) -> dict[str, Any]:
    return {"share": asdict(two.share), "cohen": asdict(two.kappa)}


def _groups(folder: Path, ids: Sequence[str]) -> np.ndarray:
    """Patient group of each scan; a scan the splits do not know is its own."""
    table = SPLIT_TABLE.read(folder)
    group = dict(zip(table["image_id"].to_pylist(), table["group_id"].to_pylist(), strict=True))
    return np.array([group.get(image_id, image_id) for image_id in ids], dtype=object).astype(str)


def _is_train(folder: Path, ids: Sequence[str]) -> np.ndarray:
    table = SPLIT_TABLE.read(folder)
    train = table.filter(pc.equal(table["split"], "train"))["image_id"]
    return np.asarray(pc.is_in(pa.array(ids, pa.string()), value_set=train.combine_chunks()), dtype=bool)


def _probabilities(folder: Path, round_index: int, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """(N, C) of a model that saw no expert label of the scan: out of fold, or of before there was one; else NaN."""
    prob_NC = _out_of_fold(folder, round_index, ids, findings)
    path = folder / "rounds" / f"{round_index:02d}"
    if (path / "predictions.parquet").exists():
        new_NC = _columns(PREDICTIONS.read(path), ids, findings)
        unknown_N = np.isnan(prob_NC).any(axis=1)
        prob_NC[unknown_N] = new_NC[unknown_N]
    return prob_NC


def _out_of_fold(folder: Path, round_index: int, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    path = folder / "rounds" / f"{round_index:02d}" / OOF
    return _columns(pq.read_table(path) if path.exists() else None, ids, findings)


def _columns(table: pa.Table | None, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """Probabilities of `ids` in the order of `findings`, NaN where the table has none."""
    prob_NC = np.full((len(ids), len(findings)), np.nan)
    names = [f"prob_{finding}" for finding in findings]
    if table is None or not set(names) <= set(table.column_names):
        return prob_NC
    place = pc.index_in(pa.array(ids, pa.string()), value_set=table["image_id"].combine_chunks())
    known_N = np.asarray(pc.is_valid(place), dtype=bool)
    rows = place.drop_null().to_numpy()
    for c, name in enumerate(names):
        prob_NC[known_N, c] = table[name].to_numpy()[rows]
    return prob_NC
