"""What a batch that has moved most probably owes it to, by a fixed order of questions; the numbers stand beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.monitor.streams import EMBEDDINGS, METADATA, OUTSIDE, PICTURES, PREDICTIONS, SLICES, Reading

ORIGIN = ("source", "manufacturer", "population", "width_px", "height_px")
FORM = ("format", "bit_depth")  # of the files: another export has one, whatever made the scans
SCAN_KINDS = "other scans"  # embeddings moved, and nothing that has a simpler name
USUAL = 0.2  # likeness from which on scans have a usual picture, and a batch has something in common with it
NEGATIVE = -0.2  # likeness below which most of a batch is the negative of the usual picture
NOTABLE = 0.5  # spreads of the reference that a picture fact moves by where it is the cause; a finding moves it less
UNLIKE = -1.0  # spreads of the reference by which likeness fell: no change of grey values or grain does that


@dataclass(frozen=True)
class Cause:
    """Why a batch has moved.

    Attributes:
        name: A fixed word, such as `brightness`, `prevalence` or `source`.
        words: A sentence for people.
        fix: What to do first.
        is_learnable: Whether a model should learn such scans, once they are labelled.
    """

    name: str
    words: str
    fix: str
    is_learnable: bool = True


def of(moved: Sequence[Reading], moved_beyond_mix: Sequence[Reading] | None) -> Cause | None:
    """The cause of what has moved; None where nothing has.

    Args:
        moved: Against the reference.
        moved_beyond_mix: Against the part of the reference that has the batch's mix of classes; None: not known.
    """
    if not moved:
        return None
    if moved_beyond_mix is not None and not moved_beyond_mix:
        return Cause(
            "prevalence",
            "Classes are not as frequent as in the reference, and nothing else has moved: among reference scans of the "
            "batch's own mix the batch does not stand out.",
            "look whether the estimated class shares are what you expect here; give predictions the new prevalence",
        )
    left = list(moved_beyond_mix or moved)
    forms = ", ".join(r.variable for r in left if _is_form(r))
    others = [r for r in left if not _is_form(r)]
    named = _of_another_kind(others) or _of_origin(others) or _of_pictures(others) or _of_people(others)
    if not forms:
        return named or _of_the_rest(others)
    if named is None:
        return _of_export(forms, others)
    return replace(named, words=f"{named.words} The files have another form, too: {forms} moved.")


def _is_form(reading: Reading) -> bool:
    return reading.stream == METADATA and reading.variable in FORM


def _of_export(forms: str, others: Sequence[Reading]) -> Cause:
    """Files of another form, and nothing else that has a name of its own."""
    streams = ", ".join(sorted({reading.stream for reading in others}))
    besides = f"{streams} moved with them" if others else "nothing else moved"
    return Cause(
        "export",
        f"The files have another form than the reference's ({forms} moved), and {besides}: another export, another "
        "compression, or another place.",
        "look at how the scans were exported, and whether they come from where they always came from",
    )


def _of_another_kind(moved: Sequence[Reading]) -> Cause | None:
    """Pictures that have nothing in common with the usual one."""
    likeness = _likeness(moved)
    if likeness is None or not NEGATIVE <= float(likeness.batch) < USUAL or float(likeness.effect or 0.0) >= UNLIKE:
        return None
    return Cause(
        SCAN_KINDS,
        "Most pictures have nothing in common with the reference's usual one: another body part, slices of a CT, scans "
        "that lie on their side, or no scans at all.",
        "look at the scans that are farthest away; if they are no scans of the kind that the model is made for, leave "
        "them out, and do not retrain",
        is_learnable=False,
    )


def _likeness(moved: Sequence[Reading]) -> Reading | None:
    """What moved of the thumbnails; None where it did not, or where the reference has no usual picture."""
    of_thumbnails = (r for r in moved if r.stream == PICTURES and r.variable == "likeness")
    return next((r for r in of_thumbnails if float(r.reference) > USUAL), None)


def _of_origin(moved: Sequence[Reading]) -> Cause | None:
    names = [r.variable for r in moved if r.stream == METADATA and r.variable in ORIGIN]
    if not names:
        return None
    return Cause(
        "source",
        f"The scans come from elsewhere than the reference: {', '.join(names)} moved.",
        "label a random part of the new source's scans and evaluate on it before anybody relies on the model there",
    )


def _of_pictures(moved: Sequence[Reading]) -> Cause | None:
    likeness = _likeness(moved)
    if likeness is not None and float(likeness.batch) < NEGATIVE:
        return Cause(
            "inverted",
            "Most scans are the negative of the reference's: their thumbnails are the opposite of the usual one.",
            "look at how they were exported (MONOCHROME1) and mend it there; do not retrain",
            is_learnable=False,
        )
    if likeness is not None and float(likeness.effect or 0.0) < UNLIKE:
        return Cause(
            "source",
            "The pictures show something else, or the same otherwise framed: thumbnails are unlike the reference's, as "
            "of another place, another kind of patient or another body part.",
            "look at the scans that are farthest away; label a random part of them and evaluate on it",
        )
    facts = [r for r in moved if r.stream == PICTURES and r.variable != "likeness"]
    effects = {r.variable: float(r.effect or 0.0) for r in facts}
    top = max(effects, key=lambda name: abs(effects[name]), default=None)
    is_alone = all(r.stream == PICTURES for r in moved)
    if top is None or (abs(effects[top]) < NOTABLE and not is_alone):
        return None
    name = top if top in ("brightness", "contrast") else _of_grain(effects)
    direction = "up" if effects[top] > 0 else "down"
    others = ", ".join(sorted(set(effects) - {top}))
    return Cause(
        name,
        f"The pictures themselves moved: {top} went {direction} by {abs(effects[top]):.1f} spreads of the reference"
        + (f"; {others} moved less." if others else "."),
        "look at the machine's settings and at the export; mend them there before thinking of retraining",
    )


def _of_grain(effects: dict[str, float]) -> str:
    """Noise makes both more, blur makes both less."""
    if effects.get("noise", 0.0) > 0:
        return "noise"
    return "blur" if effects.get("sharpness", effects.get("noise", 0.0)) < 0 else "sharpness"


def _of_people(moved: Sequence[Reading]) -> Cause | None:
    names = [r.variable for r in moved if r.stream == METADATA]
    if not names:
        return None
    return Cause(
        names[0],
        f"Other patients than in the reference: {', '.join(names)} moved.",
        "compare the model's errors in the groups that grew, and label scans of them",
    )


def _of_the_rest(moved: Sequence[Reading]) -> Cause:
    streams = {r.stream for r in moved}
    if streams & {EMBEDDINGS, OUTSIDE, SLICES, PICTURES}:
        return Cause(
            SCAN_KINDS,
            "The scans show something else than the reference, though their pictures are nearly as bright, sharp and "
            "noisy as before: a new finding, another position or another kind of patient.",
            "look at the scans that are farthest away, and have some of them labelled",
        )
    assert PREDICTIONS in streams
    return Cause(
        "predictions",
        "The model answers otherwise than on the reference, though the scans look alike.",
        "have a random part of the scans labelled and evaluate on it",
    )
