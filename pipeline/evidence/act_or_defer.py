"""What the run's model may decide alone: thresholds certified on the sealed holdout, `act_or_defer.json`.

The holdout's labels are blind, and neither the model nor its calibration has seen them. One scan of each patient
counts, drawn by chance; those labelled in earlier rounds come first, so that labels which join later add to the end.

Legend: S scored scans, G patients.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.options.evidence import EvaluateConfig
from pipeline.contracts.tables import PREDICTIONS, write_text
from pipeline.evidence.scored import Scored
from pipeline.labels import label_table
from pipeline.labels.decision_thresholds import model_hash
from pipeline.measures import act_or_defer
from pipeline.measures.act_or_defer import ASK, NO, YES, Certified
from pipeline.measures.weighted_metrics import listed
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record

SIDES = (NO, YES)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Labels:
    """The labels that certify.

    Attributes:
        scored: The holdout as the last model sees it.
        order_S: Positions of its scans, in the order in which they count.
        prob_P: Class to probabilities of the training pool's scans.
    """

    scored: Scored
    order_S: NDArray[np.int64]
    prob_P: dict[int, Floats]

    def one_a_patient(self, is_one_S: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Positions of the first scan of each patient, among some scans or all of them."""
        first: dict[str, int] = {}
        for s in self.order_S.tolist():
            if is_one_S is None or is_one_S[s]:
                first.setdefault(self.scored.group_S[s], s)
        return np.array(list(first.values()), np.int64)


def write(ctx: StageContext, scored: Scored) -> dict[str, Any]:
    """Certify thresholds for the promise that was asked for, and write them.

    Args:
        ctx: Of a run with `evaluate.promise_error`.
        scored: Its holdout as its last model sees it.

    Returns:
        What the file holds, see `docs/how-to/act-or-defer.md`.
    """
    options, confidence = ctx.config.evaluate, ctx.config.pseudo.confidence
    classes = listed(len(scored.findings), scored.positive)
    table = PREDICTIONS.read(ctx.folder)
    table = table.filter(pc.equal(table["split"], "train"))
    prob_P = {c: np.asarray(table[f"prob_{scored.findings[c]}"], dtype=np.float64) for c in classes}
    labels = _Labels(scored, _order(ctx, scored.ids_S), prob_P)
    findings = {scored.findings[c]: _of_finding(labels, c, options, confidence) for c in classes}
    result = {
        "model": model_hash(ctx.folder),
        "round": run_files.last_round(ctx.folder),
        "promise_of": options.promise_of,
        "promised_error": options.promise_error,
        "confidence": confidence,
        "confidence_together": round(max(0.0, 1.0 - 2 * len(findings) * (1.0 - confidence)), 12),
        "num_scans": len(scored.ids_S),
        "num_patients": len(labels.one_a_patient()),
        "findings": findings,
    }
    write_text(ctx.folder / run_files.ACT_OR_DEFER, json.dumps(result, indent=1))
    return result


def _of_finding(labels: _Labels, c: int, options: EvaluateConfig, confidence: float) -> dict[str, Any]:
    """Both sides of a finding, and what share of the patients' scans they decide."""
    sides = {side: _certify(labels, c, side, options, confidence) for side in SIDES}
    one_G = labels.one_a_patient()
    prob_G, has_G = labels.scored.prob_SC[one_G, c], labels.scored.class_S[one_G] == c
    said_G = act_or_defer.decisions(prob_G, *(sides[side]["threshold_prob"] for side in SIDES))
    num_alone = int((said_G != ASK).sum())
    return {
        "sides": sides,
        "num_with": int(has_G.sum()),
        "num_without": int((~has_G).sum()),
        "share_no": float((said_G == NO).mean()),
        "share_yes": float((said_G == YES).mean()),
        "share_ask": float((said_G == ASK).mean()),
        "share_alone": num_alone / len(one_G),
        "share_alone_ci95": list(act_or_defer.share_interval(num_alone, len(one_G))),
    }


def _certify(labels: _Labels, c: int, side: str, options: EvaluateConfig, confidence: float) -> dict[str, Any]:
    """One side: its threshold as a probability of the finding, or what is missing for one."""
    error = options.promise_error
    assert error is not None
    scored, one_G = labels.scored, labels.one_a_patient()
    sure_S, sure_P = _sure(scored.prob_SC[:, c], side), _sure(labels.prob_P[c], side)
    wrong_S = (scored.class_S == c) == (side == NO)
    at_stake = labels.one_a_patient(wrong_S)
    of = {
        "class": act_or_defer.certify_class(sure_S[at_stake], error, confidence),
        "decided": act_or_defer.certify_decided(sure_S[one_G], wrong_S[one_G], sure_P, error, confidence),
    }
    begin = act_or_defer.first_of_decided(sure_P)
    num_decided = int((sure_S[one_G] >= act_or_defer.THRESHOLD_T[begin]).sum()) if begin is not None else 0
    # Where no patient brings such a label, as if one did: the number that is missing is then a guess from below.
    share = {"class": max(len(at_stake), 1) / len(one_G), "decided": max(num_decided, 1) / len(one_G)}
    wanted = ("class", "decided") if options.promise_of == "both" else (options.promise_of,)
    threshold = of[wanted[0]].threshold
    if len(wanted) > 1:
        threshold = act_or_defer.stricter(of["class"], of["decided"], sure_P)
    rows = {kind: _row(of[kind], share[kind], side) for kind in of}
    return {
        "threshold_prob": _as_probability(threshold, side),
        "certified": threshold is not None,
        "why_not": None if threshold is not None else _why([(kind, of[kind]) for kind in wanted]),
        "num_missing_labels": 0
        if threshold is not None
        else _most([rows[kind]["num_missing_labels"] for kind in wanted]),
        "by_promise": rows,
    }


def _row(certified: Certified, share: float, side: str) -> dict[str, Any]:
    """What the labels prove of one promise.

    Args:
        certified: The proof.
        share: Of the patients, how many bring a label of the kind that counts.
        side: Yes or no.
    """
    missing = certified.missing
    return {
        "threshold_prob": _as_probability(certified.threshold, side),
        "num_labels": certified.num_labels,
        "num_errors_first": certified.num_errors,
        "num_missing": missing,
        "num_missing_labels": None if missing is None else math.ceil(missing / share),
    }


def _most(numbers: list[int | None]) -> int | None:
    """The largest; None where one is not known, or nothing is missing and no threshold is certified all the same."""
    known = [number for number in numbers if number is not None]
    return max(known) or None if len(known) == len(numbers) else None


def _why(certified: list[tuple[str, Certified]]) -> str:
    """Why a side is left to people."""
    kind, first = next(((k, c) for k, c in certified if c.threshold is None), ("both", certified[0][1]))
    if kind == "both":
        return "each promise holds somewhere, but they hold at no threshold together"
    if kind == "decided" and first.missing is None and first.num_labels == 0:
        return "the model never gives this answer with a probability of a half"
    what = "scans of the class at stake" if kind == "class" else "scans of the surest quarter"
    return f"{first.num_errors} errors among {first.num_labels} {what}"


def _sure(prob_N: Floats, side: str) -> Floats:
    return prob_N if side == YES else 1.0 - prob_N


def _as_probability(threshold: float | None, side: str) -> float | None:
    if threshold is None:
        return None
    return threshold if side == YES else 1.0 - threshold


def _order(ctx: StageContext, ids_S: list[str]) -> NDArray[np.int64]:
    """Positions of the scans: by the round they were labelled in, and in a round as drawn by chance.

    Of a run that has grown the holdouts of all parts are one sample: labels from before count as if they had come with
    the first queue since, in an order of their own, so that the old holdout is not looked at first.
    """
    part = record.last(ctx.folder)
    since, drawn_for = (0, "") if part is None else (part.first_queue, f" of part {part.part}")
    table = label_table.read(ctx.folder)
    table = table.filter(pc.equal(table["origin"], "expert"))
    round_of: dict[str, int] = {}
    for image_id, round_index in zip(table["image_id"].to_pylist(), table["round"].to_pylist(), strict=True):
        round_of[image_id] = min(round_index, round_of.get(image_id, round_index))
    drawn = [run_files.digest(f"{ctx.config.seed}/act or defer{drawn_for}", image_id) for image_id in ids_S]
    return np.array(
        sorted(range(len(ids_S)), key=lambda s: (max(round_of.get(ids_S[s], 0), since), drawn[s])), np.int64
    )
