"""How far a calibrated probability can be trusted: what it would be, had other patients been labelled.

A probability rests on three numbers that a few labels have fixed: the temperature of the logits, their bias per class,
and the share of each class in the pool. The labelled patients are redrawn, temperature and bias are fitted anew to
their out-of-fold scores, and the class shares are drawn from their posterior. The middle 95 % of the probabilities
that come of it are the interval. What it does not hold: that another set of labels would have given another network,
and that the scans at hand may be of another place than the pool's.

Legend: N scans, C classes, E expert-labelled scans, B redraws.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import SPLIT_TABLE, write_bytes
from pipeline.learn.classifier import Classifier
from pipeline.measures import calibrate
from pipeline.predict import formulas
from pipeline.runtime import run_dir, run_files

VERSION = 1  # raise it whenever the file means something else
NUM_REDRAWS = 200
SMALLEST = 1e-6  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class Redraws:
    """How the calibration came out by other labels, relative to how it did.

    Attributes:
        temperature_B: Of calibrated logits; 1 leaves them.
        bias_BC: Added to them after that.
        log_prior_BC: Logarithm of the pool's class shares.
    """

    temperature_B: np.ndarray
    bias_BC: np.ndarray
    log_prior_BC: np.ndarray

    def interval(self, logit_NC: np.ndarray, prob_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end for each scan and class, see `formulas.calibration_interval`."""
        return formulas.calibration_interval(logit_NC, prob_NC, self.temperature_B, self.bias_BC, self.log_prior_BC)


def of_round(folder: Path, round_index: int, model: Classifier) -> Redraws:
    """The redraws of a round's calibration; worked out once and kept beside its model.

    Args:
        folder: Of the run, or of one finding of it.
        round_index: The round.
        model: Its classifier.
    """
    place = run_files.round_folder(folder, round_index)
    path = place / run_files.MODEL / run_files.CALIBRATION
    files = (place / run_files.OOF, place / run_files.MODEL / run_files.CARD)
    fingerprint = run_dir.fingerprint({"version": VERSION, "files": [run_dir.file_hash(file) for file in files]})
    kept = _read(path, fingerprint)
    if kept is not None:
        return kept
    logit_EC, class_E, group_E, num_uniform = _judges(folder, round_index, model)
    redraws = redrawn(logit_EC, class_E, group_E, model.prevalence_C, num_uniform, np.random.default_rng(0))
    _keep(path, redraws, fingerprint)
    return redraws


def redrawn(
    logit_EC: np.ndarray,
    class_E: np.ndarray,
    group_E: np.ndarray,
    prevalence_C: np.ndarray,
    num_uniform: int,
    rng: np.random.Generator,
) -> Redraws:
    """Fit the calibration to redrawn patients.

    Args:
        logit_EC: Calibrated out-of-fold logits at balanced classes.
        class_E: Class index.
        group_E: Patient, as a number from 0.
        prevalence_C: Class shares of the pool, all positive.
        num_uniform: Labels of scans drawn uniformly, which the class shares rest on.
        rng: Draws patients and class shares.

    Source: patient-cluster bootstrap as in `measures.bootstrap`; posterior of `calibrate.estimate_prevalence`.
    """
    from pipeline.measures import bootstrap  # here, because it takes longer to import than to predict a scan

    num_classes = len(prevalence_C)
    strength = num_uniform + num_classes
    prior_BC = np.maximum(rng.dirichlet(prevalence_C * strength, NUM_REDRAWS), SMALLEST)
    weight_E = calibrate.class_weights(class_E, num_classes)[class_E] if len(class_E) else np.empty(0)
    temperature, bias_C = _fit(logit_EC, class_E, weight_E)
    temperature_B, bias_BC = np.ones(NUM_REDRAWS), np.zeros((NUM_REDRAWS, num_classes))
    if len(np.unique(group_E)) > 1:
        draws_BE = np.concatenate(list(bootstrap.draws(group_E, NUM_REDRAWS, rng)))
        for b, draw_E in enumerate(draws_BE):
            redrawn_temperature, redrawn_bias_C = _fit(logit_EC, class_E, weight_E * draw_E)
            temperature_B[b] = redrawn_temperature / temperature
            bias_BC[b] = redrawn_bias_C - bias_C
    return Redraws(temperature_B, bias_BC, np.log(prior_BC / prior_BC.sum(1, keepdims=True)))


def _fit(logit_EC: np.ndarray, class_E: np.ndarray, weight_E: np.ndarray) -> tuple[float, np.ndarray]:
    temperature = calibrate.fit_temperature(logit_EC, class_E, weight_E)
    return temperature, calibrate.fit_bias(logit_EC / temperature, class_E, weight_E)


def _judges(folder: Path, round_index: int, model: Classifier) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Out-of-fold logits, classes and patients of the scans that a round learned from; how many came uniformly."""
    from pipeline.labels import label_table, training_labels, verdicts

    oof = pq.read_table(run_files.round_folder(folder, round_index) / run_files.OOF)
    table = label_table.read(folder)
    expert = training_labels.expert_labels(folder, table, model.findings, round_index)
    ids, class_A = verdicts.class_array(expert.training, model.findings)
    answered = dict(zip(ids, class_A.tolist(), strict=True))
    known = np.array([image_id in answered for image_id in oof["image_id"].to_pylist()], dtype=bool)
    oof = oof.filter(pa.array(known))
    image_ids = oof["image_id"].to_pylist()
    class_E = np.array([answered[image_id] for image_id in image_ids], np.int64)
    prob_EC = np.column_stack([oof[f"prob_{finding}"].to_numpy() for finding in model.findings]).astype(np.float64)
    logit_EC = np.log(np.maximum(prob_EC, SMALLEST)) - np.log(model.prevalence_C)
    splits = run_files.read(folder, SPLIT_TABLE, ["image_id", "group_id"])
    place = pc.index_in(oof["image_id"], value_set=splits["image_id"].combine_chunks())
    group_E = np.unique(splits["group_id"].take(place).to_pylist(), return_inverse=True)[1]
    uniform = {image_id for image_id, _, kind in run_files.asks_of(folder, round_index + 1) if kind == "uniform"}
    return logit_EC, class_E, group_E, len(uniform & set(image_ids))


def _read(path: Path, fingerprint: str) -> Redraws | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                return None
            return Redraws(*(file.get_tensor(name) for name in ("temperature_B", "bias_BC", "log_prior_BC")))
    except (OSError, SafetensorError):
        return None


def _keep(path: Path, redraws: Redraws, fingerprint: str) -> None:
    from safetensors.numpy import save

    arrays = {"temperature_B": redraws.temperature_B, "bias_BC": redraws.bias_BC, "log_prior_BC": redraws.log_prior_BC}
    with contextlib.suppress(OSError):  # a run that may only be read: it is worked out again the next time
        write_bytes(path, save(arrays, {"fingerprint": fingerprint}))
