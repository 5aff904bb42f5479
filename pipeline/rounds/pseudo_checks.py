"""What speaks for and against a round's accepted pseudo-labels without an expert: flips, and a second opinion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import PSEUDO
from pipeline.learn.acceptance import second_opinion
from pipeline.learn.material import Material
from pipeline.learn.scan_rows import ScanRows

# A accepted pseudo-labels, C findings


def flips(before: Path, folder: Path, findings: Sequence[str]) -> dict[str, Any] | None:
    """How the accepted pseudo-labels of a round differ from what the round before said of the same scans.

    Args:
        before: Folder of the round before.
        folder: Folder of the round.
        findings: C classes.

    Returns:
        {"num_compared","num_flipped","share","num_withdrawn","by_class"}: accepted pseudo-labels of scans that were
        open in both rounds, how many of them had another class before, accepted or not; scans accepted before that are
        open and not accepted now; and the same by the class they have now. None without a round before.
    """
    if not (before / PSEUDO.file).exists():
        return None
    earlier, now = PSEUDO.read(before), PSEUDO.read(folder)
    place = pc.index_in(now["image_id"], value_set=earlier["image_id"].combine_chunks())
    both = now.filter(pc.is_valid(place))
    class_before = earlier["finding"].take(place.drop_null())
    accepted_before = pc.equal(earlier["decision"].take(place.drop_null()), "accept")
    accepted = pc.equal(both["decision"], "accept")
    flipped = pc.not_equal(both["finding"], class_before).filter(accepted)
    of_class = both["finding"].filter(accepted)
    counted = {finding: _count(flipped.filter(pc.equal(of_class, finding)), "num_flipped") for finding in findings}
    withdrawn = pc.sum(pc.and_(accepted_before, pc.invert(accepted))).as_py() or 0
    return _count(flipped, "num_flipped") | {"num_withdrawn": int(withdrawn), "by_class": counted}


def flip_shares(before_N: np.ndarray, now_N: np.ndarray, findings: Sequence[str]) -> dict[str, float | None]:
    """Share of the scans of each class in the round before, (N,), that have another one now; None of no scan."""
    flipped_N = before_N != now_N
    shares: dict[str, float | None] = {}
    for c, finding in enumerate(findings):
        of_class_N = before_N == c
        shares[finding] = float(flipped_N[of_class_N].mean()) if of_class_N.any() else None
    return shares


def opinions(
    folder: Path, material: Material, findings: Sequence[str], num_neighbors: int, truth: pa.Table | None
) -> dict[str, Any]:
    """How often the nearest expert labels of other patients agree with the accepted pseudo-labels of a round.

    Args:
        folder: Folder of the round.
        material: What the round learnt from.
        findings: C classes.
        num_neighbors: Expert labels that vote.
        truth: Columns image_id and label of the pool's own labels, where a benchmark may look at them; else None.

    Returns:
        {"num_neighbors","num_compared","num_agreeing","share","by_class","precision_agreeing",
        "precision_disagreeing"}: `by_class` has the numbers by proposed class; the last two are the shares that are
        right where the second opinion agrees and where it does not, null where the truth is not known.
    """
    pseudo = PSEUDO.read(folder)
    accepted = pseudo.filter(pc.equal(pseudo["decision"], "accept"))
    asked_T = material.pool_T.among(ScanRows.of(accepted["image_id"]))
    ids_A = material.pool_T.keep(asked_T).image_id
    everyone_E = np.ones(len(material.class_E), bool)
    said_A = second_opinion(material, asked_T, everyone_E, num_neighbors, len(findings))
    place = pc.index_in(ids_A, value_set=accepted["image_id"].combine_chunks())
    proposed_A = accepted["finding"].take(place)
    index_A = np.asarray(pc.index_in(proposed_A, value_set=pa.array(findings, pa.string())), np.int64)
    agrees_A = said_A == index_A
    by_class = {f: _count(pa.array(agrees_A[index_A == c], pa.bool_()), "num_agreeing") for c, f in enumerate(findings)}
    precision: dict[str, float | None] = dict.fromkeys(("precision_agreeing", "precision_disagreeing"))
    if truth is not None:
        label_A = truth["label"].take(pc.index_in(ids_A, value_set=truth["image_id"].combine_chunks()))
        right_A = pc.equal(label_A, proposed_A)
        for name, mask_A in (("precision_agreeing", agrees_A), ("precision_disagreeing", ~agrees_A)):
            precision[name] = pc.mean(right_A.filter(pa.array(mask_A))).as_py()
    every = _count(pa.array(agrees_A, pa.bool_()), "num_agreeing")
    return {"num_neighbors": num_neighbors, **every, "by_class": by_class, **precision}


def _count(is_so: pa.Array | pa.ChunkedArray, name: str) -> dict[str, Any]:
    """How many there are, how many of them are so, and their share; None of none."""
    num = int(pc.sum(is_so).as_py() or 0)
    return {"num_compared": len(is_so), name: num, "share": num / len(is_so) if len(is_so) else None}
