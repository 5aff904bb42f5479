"""The flow of scans as one inline SVG, laid out so that a telephone shows it: a trunk, then two branches.

All lengths are px of the drawing, which is 360 wide; the page scales it.
"""

import textwrap
from dataclasses import dataclass, field

from pipeline.pages.wording import by_kind, count, known, percent, plural, words
from pipeline.report.gather import RunData

WIDTH = 360
_TRUNK, _SIDE_X, _BRANCH, _GAP = 214, 238, 171, 26
_PAD, _TITLE, _VALUE, _LINE = 10, 15, 21, 13.5
_CHAR = 5.9  # mean width of a letter of a note


@dataclass(frozen=True)
class Box:
    """One step: what it is, how many, and notes; `kind` is step, aside, sealed, or apart (no arrow leads there)."""

    what: str
    value: float | None
    notes: list[str] = field(default_factory=list)
    kind: str = "step"
    x: float = 0
    y: float = 0
    width: float = _TRUNK

    @property
    def lines(self) -> list[str]:
        """The notes, wrapped to the box."""
        most = int((self.width - 2 * _PAD) / _CHAR)
        return [line for note in self.notes if note for line in textwrap.wrap(note, most)]

    @property
    def height(self) -> float:
        """Of the frame."""
        return 2 * _PAD + _TITLE + _VALUE - 4 + len(self.lines) * _LINE

    @property
    def baselines(self) -> list[float]:
        """Of the title, the number and each note."""
        first = self.y + _PAD + 10
        return [first, first + _VALUE, *(first + _VALUE + 2 + _LINE * (i + 1) for i in range(len(self.lines)))]

    @property
    def in_words(self) -> str:
        """For readers who hear the drawing."""
        return f"{self.what} {count(self.value)}" + "".join(f", {note}" for note in self.notes if note)


@dataclass(frozen=True)
class Diagram:
    """Boxes at their places, arrows as SVG paths, and the same in words."""

    boxes: list[Box]
    arrows: list[str]
    height: float

    @property
    def in_words(self) -> str:
        """Every count, in the order of the flow."""
        return "; ".join(box.in_words for box in self.boxes) + "."


def diagram(run: RunData) -> Diagram | None:
    """The drawing of a run; None where there is no manifest."""
    if not run.flow.get("found"):
        return None
    boxes, arrows, y = [], [], 1.0
    for step, aside in _trunk(run):
        placed = _at(step, 0, y, _TRUNK)
        tallest = placed.height
        boxes.append(placed)
        if aside:
            beside = _at(aside, _SIDE_X, y, WIDTH - _SIDE_X)
            boxes.append(beside)
            tallest = max(tallest, beside.height)
            arrows.append(_arrow_right(_TRUNK, _SIDE_X, y + 24))
        y += tallest + _GAP
        bottom = placed
        arrows.append(_arrow_down(_TRUNK / 2, placed.y + placed.height, y))
    arrows.pop()
    left, right = _training(run), _sealed(run)
    if not left:
        return Diagram(boxes, arrows, y - _GAP + 1)
    arrows += _fork(bottom.y + bottom.height, y)
    ends = []
    for x, steps in ((0.0, left), (float(WIDTH - _BRANCH), right)):
        at = y
        for index, step in enumerate(steps):
            placed = _at(step, x, at, _BRANCH)
            boxes.append(placed)
            at += placed.height + _GAP
            if index < len(steps) - 1 and steps[index + 1].kind != "apart":
                arrows.append(_arrow_down(x + _BRANCH / 2, placed.y + placed.height, at))
        ends.append(at - _GAP)
    return Diagram(boxes, arrows, max(ends) + 1)


def _at(box: Box, x: float, y: float, width: float) -> Box:
    return Box(box.what, box.value, box.notes, box.kind, x, y, width)


def _arrow_down(x: float, top: float, bottom: float) -> str:
    return f"M{x:.1f} {top:.1f}V{bottom - 1:.1f}m-4 -5l4 5l4 -5"


def _arrow_right(left: float, right: float, y: float) -> str:
    return f"M{left:.1f} {y:.1f}H{right - 1:.1f}m-5 -4l5 4l-5 4"


def _fork(top: float, bottom: float) -> list[str]:
    middle = (top + bottom) / 2
    targets = (_BRANCH / 2, WIDTH - _BRANCH / 2)
    stem = f"M{_TRUNK / 2:.1f} {top:.1f}V{middle:.1f}"
    return [stem, *(f"M{_TRUNK / 2:.1f} {middle:.1f}H{x:.1f}V{bottom - 1:.1f}m-4 -5l4 5l4 -5" for x in targets)]


def _trunk(run: RunData) -> list[tuple[Box, Box | None]]:
    flow = run.flow
    reasons = [f"{reason} {count(number)}" for reason, number in flow["reasons"][:3]]
    aside = Box("set aside", flow["quarantined"], reasons or ["every file could be read"], "aside")
    steps: list[tuple[Box, Box | None]] = []
    if flow.get("num_not_chosen"):
        notes = [f"{reason} {count(number)}" for reason, number in flow["not_chosen"][:6]]
        unchosen = Box("not chosen", flow["num_not_chosen"], ["by pool.where", *notes], "aside")
        steps.append((Box("scans listed", flow["found"] + flow["num_not_chosen"]), unchosen))
    steps.append((Box("files found", flow["found"]), aside))
    patients = plural(flow["patients"], "patient") if flow.get("patients") else "patients not all known"
    steps.append((Box("readable scans", flow["readable"], [patients]), None))
    if known(flow.get("groups")):
        copies = f"{count(flow['exact'])} exact and {count(flow['near'])} near copies"
        step = Box("groups never split", flow["groups"], [f"{copies} stay with their patient"])
        left_out = flow.get("left_out") or []
        number = sum(value for _, value in left_out)
        notes = [f"{reason} {count(value)}" for reason, value in left_out[:3]]
        steps.append((step, Box("left out", number, notes, "aside") if number else None))
    return steps


def _training(run: RunData) -> list[Box]:
    flow, last = run.flow, run.last or {}
    if not known(flow.get("train")):
        return []
    steps = [Box("training pool", flow["train"], [_patients_of(run, "train")])]
    asked = {kind: num for kind, num in flow["kinds"].items() if kind != "holdout"} if flow.get("queued") else {}
    if asked:
        steps.append(Box("shown to experts", sum(asked.values()), [by_kind(asked)]))
    annotators = flow["annotators"]
    by = "looked up in the pool" if annotators == ["oracle"] else f"by {words(annotators)}"
    labels = last.get("num_expert") if run.last else flow["answered"]
    steps.append(Box("expert labels", labels, [by] if 0 < len(annotators) <= 3 else []))
    if known(last.get("num_pseudo")):
        share = last.get("pseudo_share")
        notes = [f"{percent(share)} of the scans without an expert label"] if known(share) else []
        steps.append(Box("pseudo-labels", last["num_pseudo"], notes))
    return steps


def _sealed(run: RunData) -> list[Box]:
    steps = [Box("sealed holdout", run.flow["holdout"], [_patients_of(run, "holdout")], "sealed")]
    num_asked = (run.flow.get("kinds") or {}).get("holdout")
    if num_asked:
        steps.append(Box("shown to experts", num_asked, ["one scan a patient"], "sealed"))
    if run.scores:
        notes = [plural(run.scores.num_groups, "group")]
        steps.append(Box("holdout scored", run.scores.num_scans, notes, "sealed"))
    if run.holdout:
        steps.append(Box("mistakes", len(run.mistakes), [], "sealed"))
    for name, content in run.external.items():
        scope = content.get("scope") or {}
        groups = plural(scope.get("num_groups"), "group")
        steps.append(Box("external test", scope.get("num_scans"), [name[:40], groups], "apart"))
    return steps


def _patients_of(run: RunData, side: str) -> str:
    number = (run.sides.get(side) or {}).get("num_patients")
    return plural(number, "patient") if known(number) else "patients not all known"
