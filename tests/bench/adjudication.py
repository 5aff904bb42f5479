"""Two readers and an adjudicator against a panel of three, on VinBig's real readings; and who finds the bad reader.

Shapes: N scans, M readers, F findings, P ways to choose two of a scan's three readers, the third adjudicating.
"""

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.measures.consensus import overruled_readers, suspect_annotators
from tests.bench import tables
from tests.support import public_sets

NUM_BOOTSTRAP = 2000
WRONG = 0.3  # of the readings of the reader planted
PAIRS = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # two readers, and who adjudicates
ALL = "all of them"
HEADER = (
    "finding",
    "scans that show it (panel)",
    "two readers differ, %",
    "readings a scan, were it asked alone",
    "one reader: sensitivity, %",
    "one reader: false alarms, %",
    "labels unlike the panel's, of 1,000: decision for what is in dispute",
    "decision for the whole scan",
    "planted readers named: panel of three",
    "others named",
    "planted readers named: overruled",
    "others named",
)
NOTES = """\
15,000 scans, each read by three of 17 radiologists. The panel's label is what two of three say. Two of a scan's
readers are taken as its readers and the third as its adjudicator, who is asked only where they differ; every figure
is the mean over the three ways to do so, with a 95 % interval by redrawing scans (2,000 times). One reader is judged
by a panel that she is part of, so her figures flatter.

- **What it costs**: asked for all 14 findings at once, the way the scans were read, the third reads {third} of the
  scans: {readings} readings a scan instead of 3. Two readers hardly ever differ on a single finding, on some finding
  often.
- **What it gives**: where the decision covers the findings in dispute alone, the adjudicated truth is the panel's in
  every label, by construction: where two agree the third cannot outvote them. A decision that covers the whole scan
  overrules what two readers agree on; that is why none does here. An adjudicator who sees both answers may decide
  otherwise than a third blind reader would; these readings cannot tell.
- **Who is bad**: each of the 17 readers in turn is made to say the opposite of a finding in {wrong} of the readings,
  {seeds} seeds. The panel names who agrees less with two others than they with each other. With two readers and an
  adjudicator nobody can be named so; who is overruled more often than the other reader of the same scans can. Named
  without a planted reader, of 14 x 17: {clean_panel} by the panel, {clean_overruled} by the disputes. "Others named"
  is the mean number of other readers named beside the planted one.
"""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def main(_data: Path, given: Namespace) -> None:
    """Measure and write `results/adjudication.md`; the table comes with a package, so the data are not used."""
    if public_sets.DATA is None:
        raise SystemExit(public_sets.MISSING)
    findings, reader_N3, shown_N3F = readings()
    rng = np.random.default_rng(0)
    rows, clean = [], {"panel": [], "overruled": []}
    differ_PNF = np.stack([shown_N3F[:, a] != shown_N3F[:, b] for a, b, _ in PAIRS])
    any_PN = differ_PNF.any(axis=2)
    for f, finding in enumerate(findings):
        for name, accused in zip(clean, named(reader_N3, shown_N3F[:, :, f]), strict=True):
            clean[name] += [f"R{reader + 1} on {finding}" for reader in accused]
        planted = [
            plant(reader_N3, shown_N3F[:, :, f], reader, seed) for reader in range(17) for seed in range(given.seeds)
        ]
        rows.append((finding, *figures(shown_N3F[:, :, f], differ_PNF[:, :, f], any_PN, rng), *counts(planted)))
    scan_N = any_PN.mean(axis=0)
    wrong_NF = whole_scan_errors(shown_N3F, any_PN)
    cost = interval(2 + scan_N, rng)
    rows.append(
        (
            ALL,
            "–",
            interval(100 * scan_N, rng, 1),
            cost,
            "–",
            "–",
            "0",
            interval(1000 * wrong_NF.mean(1), rng, 2),
            *"––––",
        )
    )
    notes = NOTES.format(
        third=f"{100 * scan_N.mean():.1f} %",
        readings=cost,
        wrong=f"{WRONG:.0%}",
        seeds=given.seeds,
        clean_panel=", ".join(clean["panel"]) or "none",
        clean_overruled=", ".join(clean["overruled"]) or "none",
    )
    command = f"python -m tests.bench adjudication --seeds {given.seeds}"
    tables.write(
        "adjudication", "Two readers and an adjudicator against a panel of three", command, HEADER, rows, notes
    )


def readings() -> tuple[list[str], Ints, Ints]:
    """The findings, each scan's readers (N, 3) and what they say of each finding (N, 3, F), 1 or 0."""
    with tempfile.TemporaryDirectory() as temporary:
        scans = public_sets.ours("vinbig", public_sets.folder_with("vinbig", Path(temporary) / "set"))
    assert scans.readings is not None
    names = sorted(pc.unique(scans.readings.reader_R).to_pylist(), key=lambda name: int(name[1:]))
    reader_R = np.array([names.index(name) for name in scans.readings.reader_R.to_pylist()])
    order = np.argsort(scans.readings.scan_R, kind="stable")
    num = len(scans.file_N)
    assert (np.bincount(scans.readings.scan_R) == 3).all() and len(names) == 17
    shown = (scans.readings.present_RC[order] == 1).astype(np.int64)
    return list(scans.findings), reader_R[order].reshape(num, 3), shown.reshape(num, 3, len(scans.findings))


def figures(
    shown_N3: Ints, differ_PN: NDArray[np.bool_], any_PN: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Any, ...]:
    """The cells of one finding that need no reader planted."""
    panel_N = (shown_N3.sum(axis=1) > 1).astype(np.int64)
    differ_N = differ_PN.mean(axis=0)
    decided_PN = np.stack(
        [np.where(shown_N3[:, a] == shown_N3[:, b], shown_N3[:, a], shown_N3[:, c]) for a, b, c in PAIRS]
    )
    whole_PN = np.stack([np.where(any_PN[p], shown_N3[:, c], decided_PN[p]) for p, (_, _, c) in enumerate(PAIRS)])
    right_N = shown_N3.mean(axis=1)
    return (
        f"{panel_N.sum():,}",
        interval(100 * differ_N, rng, 2),
        interval(2 + differ_N, rng, 3),
        interval(100 * right_N[panel_N == 1], rng, 1),
        interval(100 * right_N[panel_N == 0], rng, 2),
        f"{1000 * (decided_PN != panel_N).mean():.0f}",
        interval(1000 * (whole_PN != panel_N).mean(axis=0), rng, 2),
    )


def whole_scan_errors(shown_N3F: Ints, any_PN: NDArray[np.bool_]) -> Floats:
    """Share of the three ways in which a decision for the whole scan is not the panel's, (N, F)."""
    panel_NF = shown_N3F.sum(axis=1) > 1
    third_PNF = np.stack([shown_N3F[:, c] for _, _, c in PAIRS])
    return ((third_PNF != panel_NF) & any_PN[:, :, None]).mean(axis=0)


def plant(reader_N3: Ints, shown_N3: Ints, reader: int, seed: int) -> tuple[bool, int, bool, int]:
    """Whether a reader who is wrong in `WRONG` is named, and how many others are: by the panel, by the disputes."""
    rng = np.random.default_rng([seed, reader])
    flip_N3 = (reader_N3 == reader) & (rng.random(shown_N3.shape) < WRONG)
    panel, overruled = named(reader_N3, np.where(flip_N3, 1 - shown_N3, shown_N3), seed)
    return reader in panel, len(panel - {reader}), reader in overruled, len(overruled - {reader})


def named(reader_N3: Ints, shown_N3: Ints, seed: int = 0) -> tuple[set[int], set[int]]:
    """The readers named by the panel of three, and by the disputes of two with the third as adjudicator."""
    num = len(shown_N3)
    rating_NM = np.full((num, 17), -1)
    np.put_along_axis(rating_NM, reader_N3, shown_N3, axis=1)
    suspects = {suspect.annotator for suspect in suspect_annotators(rating_NM, np.arange(num))}
    order_N3 = np.random.default_rng([seed, 17]).random(reader_N3.shape).argsort(axis=1)
    reader_N3, shown_N3 = (np.take_along_axis(values_N3, order_N3, axis=1) for values_N3 in (reader_N3, shown_N3))
    pair_NM = np.full((num, 17), -1)
    np.put_along_axis(pair_NM, reader_N3[:, :2], shown_N3[:, :2], axis=1)
    decision_N = np.where(shown_N3[:, 0] != shown_N3[:, 1], shown_N3[:, 2], -1)
    return suspects, {row.annotator for row in overruled_readers(pair_NM, decision_N, np.arange(num)) if row.stands_out}


def counts(planted: list[tuple[bool, int, bool, int]]) -> tuple[str, ...]:
    """How many of the readers planted were named, and the mean number of others."""
    panel, others, overruled, beside = zip(*planted, strict=True)
    num = len(planted)
    return f"{sum(panel)} of {num}", f"{np.mean(others):.2f}", f"{sum(overruled)} of {num}", f"{np.mean(beside):.2f}"


def interval(value_N: Floats, rng: np.random.Generator, digits: int = 2) -> str:
    """A mean over scans with its 95 % interval by redrawn scans."""
    values, num = np.unique(value_N, return_counts=True)
    drawn_B = rng.multinomial(len(value_N), num / len(value_N), NUM_BOOTSTRAP) @ values / len(value_N)
    low, high = np.percentile(drawn_B, [2.5, 97.5])
    return f"{value_N.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
