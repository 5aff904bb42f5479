"""The checks of a run's heat maps: made once for its latest model, and kept in its folder."""

import contextlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE, write_text
from pipeline.predict import scan_shard
from pipeline.predict.heat_maps import checks, occlusion, shuffled
from pipeline.predict.heat_maps.checks import Check
from pipeline.predict.heat_maps.occlusion import Floats, Reference
from pipeline.predict.predictor import Predictor
from pipeline.predict.recipe import Recipe, identity
from pipeline.runtime import private_files, run_dir, run_files

log = logging.getLogger(__name__)
VERSION = 2  # raise it whenever checks of the same model come out differently
NUM_SCANS = 48  # of the training pool, that opacities are planted into
NUM_REFERENCE = 16  # of those, without one, that tell what covering a place does


@dataclass(frozen=True)
class Checked:
    """What is known of the heat maps of a run's latest model.

    Attributes:
        checks: By finding.
        references: What covering each place does in scans of the run, by finding.
    """

    checks: dict[str, Check]
    references: dict[str, Reference]

    def shown(self, where: str) -> dict[str, Reference]:
        """The findings whose maps may be shown, with their references; why not of the others goes to the log.

        Raises:
            InputError: none may.
        """
        reasons = [f"{finding}: {check.reason}" for finding, check in self.checks.items() if check.reason is not None]
        if len(reasons) == len(self.checks):
            raise InputError(
                "no heat map of this model has passed its checks: " + "; ".join(reasons),
                where=where,
                fix="leave it out; more labels or an adapted network (`train.adapt`) may give maps that pass",
            )
        for reason in reasons:
            log.warning("no heat maps of %s", reason)
        return {finding: self.references[finding] for finding, check in self.checks.items() if check.reason is None}


def checked(model: Predictor) -> Checked:
    """The checks of every finding that has a classifier; made once and kept in the run's folder."""
    recipe = model.recipe
    path, fingerprint = run_files.path(recipe.run, run_files.HEAT_MAPS), _fingerprint(recipe)
    kept = _read(path, fingerprint)
    if kept is not None:
        return kept
    log.info("the heat maps of this model are checked, once: it takes some minutes")
    rng, squares = np.random.default_rng(0), _training_scans(recipe)
    references = occlusion.references(squares[:NUM_REFERENCE], model.evidence)
    result = Checked(checks.measure(model.evidence, references, shuffled.models(model, rng), squares, rng), references)
    content = {
        "fingerprint": fingerprint,
        "checks": {finding: asdict(check) for finding, check in result.checks.items()},
        "references": {finding: known.mean_K.tolist() for finding, known in references.items()},
    }
    with private_files.readable_by(recipe.run), contextlib.suppress(OSError):  # a run that may only be read
        write_text(path, json.dumps(content, indent=1))
    return result


def _training_scans(recipe: Recipe) -> list[Floats]:
    """Scans of the training pool, drawn by chance; one that cannot be read any more is left out."""
    manifest = run_files.read(recipe.run, MANIFEST, ["image_id", "path", "uri"])
    splits = run_files.read(recipe.run, SPLIT_TABLE, ["image_id", "split"])
    train = splits.filter(pc.equal(splits["split"], "train"))["image_id"].combine_chunks()
    scans = manifest.filter(pc.is_in(manifest["image_id"], value_set=train)).sort_by("image_id")
    squares: list[Floats] = []
    for row in np.random.default_rng(0).permutation(len(scans)).tolist():
        path, uri = scans["path"][row].as_py(), scans["uri"][row].as_py()
        square_SS = scan_shard.read_row(path, uri, recipe.reading)[1]
        squares += [] if square_SS is None else [square_SS]
        if len(squares) == NUM_SCANS:
            break
    return squares


def _fingerprint(recipe: Recipe) -> str:
    """Changes with the model, with how maps are made, and with the scans."""
    return run_dir.fingerprint(
        {
            "versions": [VERSION, occlusion.VERSION],
            "model": identity(recipe).fingerprint,
            "splits": run_dir.file_hash(run_files.path(recipe.run, SPLIT_TABLE.file)),
            "size_px": recipe.size_px,
        }
    )


def _read(path: Path, fingerprint: str) -> Checked | None:
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["fingerprint"] != fingerprint:
            return None
        checks_read = {finding: Check(**check) for finding, check in content["checks"].items()}
        references = {finding: Reference(np.array(mean_K)) for finding, mean_K in content["references"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Checked(checks_read, references)
