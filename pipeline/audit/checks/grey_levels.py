"""Is part of what the model knows the grey level of the film? The same probe of the scans and of equalised ones.

Equalising takes brightness, contrast, gamma and windowing out of a scan and leaves which structure is lighter than
which. Both probes look at the middle alone, where the backbone's features tell it apart, so that neither profits from
borders and markers. A small structure can be lost with the exposure, so a loss alone accuses nobody: it counts only for
a class that the grey levels of the whole picture tell by themselves.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embeddings.stage_features import of_the_middle
from pipeline.audit import altered_vectors, paired_probe, probes
from pipeline.audit.audited_pool import Subject, named
from pipeline.audit.check import Check, Table
from pipeline.audit.checks.shortcuts import Shortcuts
from pipeline.audit.paired_probe import Loss
from pipeline.audit.probes import Score

EQUALISED, GREY_ALONE = "equalised", "grey-levels"
CHECK_ID = "grey-levels-predict-label"
GUESSING = 0.5  # AUROC
_NUM_SHOWN = 6  # scans, each as it is and equalised

_WHY = (
    "Exposure, windowing and the maker of the machine set the grey level of a film. A model that leans on it can fail "
    "where films are exposed in another way. Not all of it need be a fault: an opaque lung is lighter too."
)
_FIX = (
    "See whether exposure goes with the label: audit each source by itself, and seal one as the test "
    "(`splits.holdout_source`). If the loss stays within one source, quote the equalised figure beside the score."
)


@dataclass(frozen=True)
class GreyLevels:
    """What equalising costs.

    Attributes:
        losses: Class to what the probe loses.
        alone: Class to how well mean, spread and percentiles of the grey values alone tell it.
        rows: Scans that were looked at.
        why_not: Why nothing was measured.
    """

    losses: dict[str, Loss] = field(default_factory=dict)
    alone: dict[str, Score] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    why_not: str | None = None

    def to_json(self) -> list[dict[str, Any]]:
        """Rows of `shortcuts` in `audit.json`: grey levels alone, and the equalised scans with what was lost."""
        alone = [score.to_json(finding, GREY_ALONE) for finding, score in self.alone.items()]
        return alone + [
            loss.altered.to_json(finding, EQUALISED)
            | {
                "auroc_plain": loss.plain.auroc,
                "loss": loss.difference,
                "loss_ci95": loss.difference_ci95,
            }
            for finding, loss in self.losses.items()
        ]


def measure(subject: Subject, shortcuts: Shortcuts) -> GreyLevels:
    """Ask the probe of a sample of the scans that the other probes were asked of, as they are and equalised."""
    limit = subject.config.audit.max_equalised_scans
    if limit == 0 or shortcuts.grey_RG is None:
        return GreyLevels(why_not="audit.max_equalised_scans is 0" if limit == 0 else shortcuts.why_not)
    asked = np.array(shortcuts.rows, dtype=np.int64)
    rows = subject.sample(asked, "grey-levels", limit)
    equalised_RD, ok_R = altered_vectors.measure(subject.ctx, subject.scans.take(rows), "equalised")
    rows, equalised_RD = rows[ok_R], equalised_RD[ok_R]
    classes, groups = subject.label_N[rows], subject.group_N[rows]
    if probes.comparable(classes, groups, None) is None:
        return GreyLevels(why_not=f"fewer than two classes have {probes.MIN_GROUPS} patients with a scan to equalise")
    features = subject.config.embed.features
    plain_RM, equalised_RM = (
        probes.components(of_the_middle(emb_RD, features)) for emb_RD in (subject.features(rows), equalised_RD)
    )
    sources, num_bootstrap = named(subject.source_N[rows]), subject.config.audit.num_bootstrap
    return GreyLevels(
        losses=paired_probe.losses(
            plain_RM,
            equalised_RM,
            classes,
            groups,
            sources,
            num_bootstrap=num_bootstrap,
            rng=subject.rng("grey-levels"),
        ),
        alone=probes.probe(
            shortcuts.grey_RG[np.searchsorted(asked, rows)],
            classes,
            groups,
            sources,
            kind="trees",
            num_bootstrap=num_bootstrap,
            rng=subject.rng("grey-levels-alone"),
        ),
        rows=tuple(rows.tolist()),
    )


def check(subject: Subject, grey: GreyLevels) -> Check:
    """A caution where the probe loses more than `audit.warn_grey_loss` of a class that grey levels alone tell."""
    limit = subject.config.audit.warn_grey_loss
    if not grey.losses:
        return Check(CHECK_ID, "ok", f"Not checked: {grey.why_not}.", _WHY, _FIX, checked=False)
    over = [finding for finding in grey.losses if is_over(grey, finding, limit)]
    place = subject.findings.index  # of two classes that mirror each other the one that is not normal is named
    among = over or list(grey.losses)
    finding = max(among, key=lambda name: (round(grey.losses[name].difference, 3), place(name)))
    worst = grey.losses[finding]
    return Check(
        CHECK_ID,
        "warn" if over else "ok",
        _message(finding, worst, grey, is_over=bool(over)),
        _WHY,
        _FIX,
        count=len(over),
        value=worst.difference,
        threshold=limit,
        evidence=_pictures(subject, grey),
        table=_table(grey),
    )


def is_over(grey: GreyLevels, finding: str, limit: float) -> bool:
    """Whether a loss is large, no chance, and of a class that grey levels alone tell better than guessing."""
    loss = grey.losses[finding]
    return loss.difference > limit and loss.is_beyond_chance and grey.alone[finding].lower > GUESSING


def _message(finding: str, loss: Loss, grey: GreyLevels, *, is_over: bool) -> str:
    head = "Part of what the model knows is grey level: " if is_over else ""
    before, after = (probes.with_interval(*score.fair) for score in (loss.plain, loss.altered))
    ends = loss.difference_ci95
    interval = "" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    alone = probes.with_interval(*grey.alone[finding].fair)
    within = ", within each source" if loss.plain.is_judged_within else ""
    return (
        f"{head}{finding} is told with AUROC {before} from the scan as it is and {after} from the scan with its "
        f"histogram equalised: a loss of {loss.difference:.3f}{interval}. Grey levels alone, without a picture, "
        f"tell it with {alone} ({len(grey.rows)} scans, patient-grouped{within})."
    )


def _pictures(subject: Subject, grey: GreyLevels) -> tuple[dict[str, Any], ...]:
    """A few scans of each class, each as it is and equalised."""
    rows = np.array(grey.rows, dtype=np.int64)
    turns = [rows[subject.label_N[rows] == finding][:_NUM_SHOWN] for finding in grey.losses]
    shown = [row for depth in range(_NUM_SHOWN) for of_class in turns for row in of_class[depth : depth + 1]]
    evidence: list[dict[str, Any]] = []
    for row in shown[:_NUM_SHOWN]:
        as_it_is = {"image_id": str(subject.image_id_N[row]), "note": str(subject.label_N[row])}
        evidence += [as_it_is, as_it_is | {"note": f"{as_it_is['note']}, equalised", "alteration": "equalised"}]
    return tuple(evidence)


def _table(grey: GreyLevels) -> Table:
    rows = tuple(
        (
            finding,
            loss.plain.num_positive,
            loss.plain.fair[0],
            loss.altered.fair[0],
            loss.difference,
            *(loss.difference_ci95 or (None, None)),
            grey.alone[finding].fair[0],
        )
        for finding, loss in grey.losses.items()
    )
    return Table(
        ("class", "scans", "AUROC as it is", "AUROC equalised", "loss", "95% from", "to", "grey levels alone"), rows
    )
