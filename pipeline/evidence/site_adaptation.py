"""An operating point adapted to a site: cut halfway to the valley of that site's own unlabelled scores.

The model, its probabilities and the run's own operating point stay as they are; what the site changes is from which
probability on a finding is called there. No label is read: neither of the site, nor of the holdout.

Legend: T scans of the site, C = 2 findings, S scored scans of the holdout.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.evidence import other_pool
from pipeline.labels import label_table, verdicts
from pipeline.labels.class_counts import MIN_LABELS
from pipeline.learn import operating_point
from pipeline.learn.classifier import Classifier
from pipeline.measures import calibrate
from pipeline.pages.wording import plural
from pipeline.pool import manifest
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import embed

FEWEST_SCANS = 100  # with fewer the valley is a matter of luck
OPTION = "evaluate.site"
NAME = "adapted to the site"


@dataclass(frozen=True)
class SitePoint:
    """The operating point of a site and what it rests on.

    Attributes:
        findings: The two classes.
        weights_C: What probabilities are divided by before the largest is the class called.
        share_C: Mean probability of each class over the site's scans.
        valley: Otsu's threshold of the log-odds of the second class, at the learning prior.
        num_scans: T.
        num_unusable: Files of the site that could not be used.
        address: The address that was given.
    """

    findings: tuple[str, ...]
    weights_C: np.ndarray
    share_C: np.ndarray
    valley: float
    num_scans: int
    num_unusable: int
    address: str

    def classes(self, prob_SC: np.ndarray) -> np.ndarray:
        """Class index at this operating point (S,)."""
        return np.asarray((prob_SC / self.weights_C).argmax(1), dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """What `evaluation.json` says under `site`; of the address only a hash: a path may name people or places."""
        return {
            "operating_point": NAME,
            "num_scans": self.num_scans,
            "num_unusable": self.num_unusable,
            "address_sha256": hashlib.sha256(self.address.encode()).hexdigest(),
            "valley": self.valley,
            "operating_weights": dict(zip(self.findings, self.weights_C.tolist(), strict=True)),
            "mean_probability": dict(zip(self.findings, self.share_C.tolist(), strict=True)),
        }


def check(config: Config) -> None:
    """Refuse, before anything is spent, a site that cannot be read or a run it cannot be used for.

    Raises:
        InputError: the address cannot be opened, or the pool names more than two classes.
    """
    from pipeline.pool.sources import open_pool

    if config.evaluate.site is None:
        return
    if config.pool.findings_are == "exclusive" and len(config.pool.findings or ()) > 2:
        raise _too_many_classes(len(config.pool.findings or ()))
    plain: dict[str, Any] = {"uri": config.evaluate.site, "findings": None, "finding": None, "positive": None}
    plain["root"] = None
    unmapped: dict[str, Any] = plain | {
        "columns": {},
        "patient_regex": None,
        "where": {},
    }  # the run's own column names may not fit there
    try:
        open_pool(config.pool.model_copy(update=plain), cache_folder())
    except InputError:
        try:
            open_pool(config.pool.model_copy(update=unmapped), cache_folder())
        except InputError as error:
            raise InputError(
                f"cannot be read as a pool: {error}", value=config.evaluate.site, where=OPTION, fix=error.fix
            ) from error


def adapt(ctx: StageContext, address: str) -> SitePoint:
    """Read and embed the site's scans as the run's own, and cut halfway to the valley of their scores.

    Raises:
        InputError: the pool cannot be read, holds too few scans or scans that the run has learned from or sealed, the
            model tells more than two classes, or one of the two is too rare there.
    """
    model = other_pool.last_classifier(ctx.folder)
    if len(model.findings) != 2:
        raise _too_many_classes(len(model.findings))
    _refuse_rarely_labelled(run_files.finished_rows(ctx.folder, ctx.config.rounds.num)[-1]["expert_by_class"])
    folder = ctx.folder / run_files.SITE / other_pool.folder_name(address)
    with other_pool.opened(ctx, folder, address, {}, _read) as there:
        scans = other_pool.embedded_scans(folder)
        _refuse_few(len(scans))
        _refuse_shared(ctx, scans)
        logit_TC = other_pool.logits(there, model, scans["image_id"].to_pylist())
        num_files = len(run_files.read(folder, MANIFEST, ["image_id"]))
        return cut(model, logit_TC, num_files - len(scans), address)


def _read(there: StageContext) -> None:
    """No more than it takes: copies within the site, and patients across it, change no score."""
    manifest.run(there)
    embed.run(there)


def cut(model: Classifier, logit_TC: np.ndarray, num_unusable: int, address: str) -> SitePoint:
    """The operating point from the logits of a site's scans.

    Raises:
        InputError: by the model's own probabilities, a class is too rare at the site.
    """
    share_C = np.asarray(model.probabilities(logit_TC).mean(0), np.float64)
    rarest = int(share_C.argmin())
    if share_C[rarest] < operating_point.SMALLEST_SHARE:
        raise InputError(
            f"by the model's own probabilities {share_C[rarest]:.0%} of its scans show {model.findings[rarest]}; under "
            f"{operating_point.SMALLEST_SHARE:.0%} the valley between two hills is lost in the slope of the large one",
            value=round(float(share_C[rarest]), 3),
            where=OPTION,
            fix="leave it out: the run's own operating point stays",
        )
    prior_C = np.asarray(model.learning_prior_C)
    at_prior_TC = np.log(calibrate.apply_temperature(logit_TC, model.temperature)) + np.log(prior_C)
    point = operating_point.halfway("site", at_prior_TC, model.prevalence_C, prior_C)
    valley = operating_point.otsu_threshold(at_prior_TC[:, 1] - at_prior_TC[:, 0])
    return SitePoint(model.findings, point.weights_C, share_C, valley, len(logit_TC), num_unusable, address)


def _refuse_rarely_labelled(num_labels: dict[str, int]) -> None:
    """A class of few labels wins no operating point, at a site as little as in the pool."""
    rarest = min(num_labels, key=lambda finding: num_labels[finding])
    if num_labels[rarest] < MIN_LABELS:
        raise InputError(
            f"needs {MIN_LABELS} expert labels of each class, and there are {num_labels[rarest]} of {rarest}",
            value=num_labels[rarest],
            where=OPTION,
            fix="label more scans first, or leave it out",
        )


def _too_many_classes(num_classes: int) -> InputError:
    return InputError(
        f"is for two classes, and the model tells {num_classes} apart: between several hills there is no one valley",
        where=OPTION,
        fix="leave it out: the run's own operating point stays",
    )


def _refuse_few(num_scans: int) -> None:
    if num_scans < FEWEST_SCANS:
        raise InputError(
            f"has {num_scans} usable scans; {FEWEST_SCANS} are needed to see the valley of their scores",
            value=num_scans,
            where=OPTION,
            fix="give more scans of the site as they come, unlabelled; or leave it out",
        )


def _refuse_shared(ctx: StageContext, scans: pa.Table) -> None:
    """Refuse scans or patients of the sealed holdout, and of those that experts have labelled."""
    own = other_pool.usable_scans(ctx.folder)
    splits = run_files.read(ctx.folder, SPLIT_TABLE)
    sealed = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"].to_pylist()
    labelled = verdicts.read_whole(label_table.read(ctx.folder))
    for what, ids in (("its sealed holdout", sealed), ("the scans it learned from", list(labelled))):
        known = own.filter(pc.is_in(own["image_id"], value_set=pa.array(ids, pa.string())))
        both = other_pool.shared(ctx, known, scans)
        if both.ids:
            raise InputError(
                f"{len(both.ids)} of its {len(scans)} scans are of patients or pictures that this run has in {what} "
                f"({plural(both.num_patients, 'patient')}, {plural(both.num_copies, 'picture')})",
                value=len(both.ids),
                where=OPTION,
                fix="give scans of the site that the run has never seen",
            )
