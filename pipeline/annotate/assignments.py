"""Who reads what: a queue shared out to named annotators, evenly, and kept so in `assignments.json`."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.annotate import worklist
from pipeline.annotate.worklist import Worklist
from pipeline.runtime import run_files

Handed = dict[str, list[str]]  # annotator to scans in her own order


def assign(
    open_work: Worklist, names: Sequence[str], handed: Handed, again: Callable[[str], list[str]], reread_share: float
) -> Handed:
    """Who reads what: every scan to as many readers as it lacks, evenly, nobody's earlier share changed.

    Args:
        open_work: The round's list.
        names: The annotators to hand out to.
        handed: What was handed out before.
        again: Her own earlier answers that may be asked again, in order.
        reread_share: How many of them, for each new scan.

    Returns:
        Annotator to scans in her own order, for all of `handed` and `names`.
    """
    lists = {name: list(handed.get(name, ())) for name in [*handed, *names]}
    fresh: Handed = {name: [] for name in names}
    for ask in open_work.asks:
        taken = {name for name, assigned in lists.items() if ask.image_id in assigned}
        taken |= open_work.readers.get(ask.image_id, set())
        judges = open_work.answered.get(ask.image_id, set()) if ask.again else set()
        free = sorted(
            (name for name in names if name not in taken),
            key=lambda name: (name in judges, len(fresh[name]), run_files.digest(ask.image_id, name)),
        )
        for name in free[: max(0, open_work.wanted(ask) - len(taken))]:
            fresh[name].append(ask.image_id)
    for name, assigned in fresh.items():
        assigned.sort(key=lambda image_id: worklist.turn(open_work.by_id[image_id], name))
        waiting = [image_id for image_id in again(name) if image_id not in lists[name]]
        num_due = partial(worklist.num_rereads, name, open_work.round_index, share=reread_share)
        lists[name] += _with_rereads(assigned, waiting, num_due)
    return lists


def assignments(folder: Path, round_index: int) -> Handed:
    """What was handed out in files of a round: annotator to scans."""
    path = run_files.round_folder(folder, round_index) / run_files.ASSIGNMENTS
    handed: Handed = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return handed


def holders(folder: Path, round_index: int) -> dict[str, set[str]]:
    """Scan to the annotators it was handed out to."""
    holders_of: dict[str, set[str]] = {}
    for name, image_ids in assignments(folder, round_index).items():
        for image_id in image_ids:
            holders_of.setdefault(image_id, set()).add(name)
    return holders_of


def _with_rereads(assigned: list[str], waiting: list[str], num_due: Callable[[int], int]) -> list[str]:
    """Her list with some of her own earlier answers among it, never at the end."""
    out: list[str] = []
    num_given = 0
    for count, image_id in enumerate(assigned):
        if num_given < min(num_due(count), len(waiting)):
            out.append(waiting[num_given])
            num_given += 1
        out.append(image_id)
    return out
