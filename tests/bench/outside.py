"""Whether scans that a model of children's chests does not know are told from its own test scans, and by what score.

Threshold and AUROC by turns of the official test: half of its patients fix the threshold, the other half are the scans
that belong. Of every kind of stranger the share above the threshold and the AUROC against those scans, mean and 95 %
interval over the seeds, which draw the halves and the strangers. k-NN is what the product uses (`predict.outside`);
Mahalanobis distance (Lee et al. 2018) and energy (Liu et al. 2020) stand beside it.
"""

import csv
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image
from sklearn.metrics import roc_auc_score

from embeddings import decode, extract
from pipeline.audit import overrides as overrides_of_audit
from pipeline.commands import request, run
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.tables import SPLIT_TABLE
from pipeline.evidence import other_pool
from pipeline.learn.classifier import Classifier
from pipeline.predict import formulas, outside
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import principal_components
from pipeline.vectors.embed import embedder_of
from pipeline.vectors.matrix import Vectors
from tests.bench import pools, tables

FALSE_ALARM_RATE = 0.05
NUM_STRANGERS = 200  # of a kind and seed
Squares = list[np.ndarray]
Score = Callable[[np.ndarray], np.ndarray]


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/outside.md`."""
    folder = kermany_run(data)
    embed, size_px = _embedder(folder)
    scores = _scores(folder)
    results: dict[tuple[str, str], list[tuple[float, float]]] = {}
    alarms: dict[str, list[float]] = {name: [] for name in scores}
    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        tests, groups = _test_scans(folder)
        fixing_H = np.isin(groups, rng.permutation(np.unique(groups))[: len(np.unique(groups)) // 2])
        own = {name: score(_embedded(folder, tests)) for name, score in scores.items()}
        strangers = {kind: embed(squares) for kind, squares in _strangers(data, folder, tests, size_px, rng).items()}
        for name, score in scores.items():
            threshold = formulas.threshold(np.sort(own[name][fixing_H]), FALSE_ALARM_RATE)
            assert threshold is not None
            belong = own[name][~fixing_H]
            alarms[name].append(float((belong > threshold).mean()))
            for kind, emb_ND in strangers.items():
                far = score(emb_ND)
                truth = np.r_[np.zeros(len(belong)), np.ones(len(far))]
                auroc = float(roc_auc_score(truth, np.r_[belong, far]))
                results.setdefault((kind, name), []).append((auroc, float((far > threshold).mean())))
    _write(results, alarms, given.seeds)


def kermany_run(data: Path) -> Path:
    """A run on kermany with 100 expert labels, made once and kept in the cache."""
    folder = cache_folder() / "bench" / "predict" / "kermany"
    wanted = {
        "pool.uri": pools.uri(data, "kermany"),
        **pools.OVERRIDES["kermany"],
        "rounds.num": 2,
        "queue.budget": 50,
        "oracle": True,
        "rounds.reference": False,
    }
    accept = tuple(overrides_of_audit.parse(["metadata-predicts-label"], pools.BECAUSE))
    run.execute(request.Request(overrides=wanted, out=folder, resume=True, quiet=True, accept=accept))
    return folder


def _embedder(folder: Path) -> tuple[Callable[[Squares], np.ndarray], int]:
    config: Config = run_dir.config_of(folder)
    backbone, model = embedder_of(StageContext(config, folder, SerialEngine()))
    size_px = config.preprocess.size_px
    forward, _ = extract.forward_of(backbone, config.embed.features, size_px, model, 2)

    def embed(squares: Squares) -> np.ndarray:
        scan_N1SS = np.stack([np.ascontiguousarray(square, np.float32) for square in squares])[:, None]
        return extract.as_stored(forward(scan_N1SS)).astype(np.float32)

    return embed, size_px


def _scores(folder: Path) -> dict[str, Score]:
    """Each score of embeddings (N, D): the larger, the stranger."""
    mean_D, basis_DP = principal_components.load_basis(folder)
    knows = outside.of_run(folder)
    home = run_files.round_folder(folder, run_files.last_round(folder) or 0) / run_files.MODEL
    model = Classifier.load(home)
    centre_Q = knows.reference_RQ.mean(0)

    def scaled(emb_ND: np.ndarray) -> np.ndarray:
        return formulas.scaled(principal_components.project(emb_ND, mean_D, basis_DP), knows.scale_Q)

    def energy(emb_ND: np.ndarray) -> np.ndarray:
        logit_NC = np.asarray(model.logits(emb_ND), np.float64) / model.temperature
        return np.asarray(-np.log(np.exp(logit_NC).sum(1)))

    return {
        "k-NN": lambda emb_ND: formulas.kth_distances(scaled(emb_ND), knows.reference_RQ),
        "Mahalanobis": lambda emb_ND: np.linalg.norm(scaled(emb_ND) - centre_Q, axis=1),
        "energy": energy,
    }


def _test_scans(folder: Path) -> tuple[list[str], np.ndarray]:
    """Ids and patients of the official test."""
    splits = run_files.read(folder, SPLIT_TABLE)
    held_out = splits.filter(pc.equal(splits["split"], "holdout"))
    return held_out["image_id"].to_pylist(), np.array(held_out["group_id"].to_pylist())


def _embedded(folder: Path, image_ids: list[str]) -> np.ndarray:
    vectors = Vectors.open(folder)
    return np.asarray(vectors.emb_ND[vectors.positions(image_ids)], np.float32)


def _strangers(
    data: Path, folder: Path, tests: list[str], size_px: int, rng: np.random.Generator
) -> dict[str, Squares]:
    """Squares that the model's network is shown, by kind."""
    scans = other_pool.usable_scans(folder)
    chosen = [tests[i] for i in rng.choice(len(tests), NUM_STRANGERS, replace=False)]
    uri = dict(zip(scans["image_id"].to_pylist(), scans["uri"].to_pylist(), strict=True))
    own = [decode.scan_square(uri[image_id], size_px, 10**9)[0] for image_id in chosen]
    wg04, files = data / "dicom" / "wg04", _adults(data)
    adults = [files[i] for i in rng.choice(len(files), NUM_STRANGERS, replace=False)]
    return {
        "own test scans, upside down": [square[::-1] for square in own],
        "own test scans, a quarter turned": [np.rot90(square) for square in own],
        "own test scans, inverted": [1.0 - square for square in own],
        "noise, fine to coarse": [_noise(number, size_px, rng) for number in range(NUM_STRANGERS)],
        "adults (covid3)": [decode.scan_square(str(path), size_px, 10**9)[0] for path in adults],
        "a hip (RG2), cut out anew": cut_out(wg04 / "RG2_UNC", size_px, rng),
        "an extremity (RG3), cut out anew": cut_out(wg04 / "RG3_UNC", size_px, rng),
        "a CT capture (SC1), cut out anew": cut_out(wg04 / "SC1_UNC", size_px, rng),
    }


def _adults(data: Path) -> list[Path]:
    manifest = data / "covid3" / "manifest.csv"
    with manifest.open(encoding="utf-8") as stream:
        return [manifest.parent / row["image_path"] for row in csv.DictReader(stream)]


def _noise(number: int, size_px: int, rng: np.random.Generator) -> np.ndarray:
    side = (size_px, size_px // 4, size_px // 16, size_px // 32)[number % 4]
    grey = rng.random((side, side)) if number % 8 < 4 else np.clip(rng.normal(0.5, 0.2, (side, side)), 0, 1)
    return decode.resize(grey.astype(np.float32), size_px)


def cut_out(path: Path, size_px: int, rng: np.random.Generator, num: int = 40) -> Squares:
    """The whole picture, and random rectangles of 60 to 100 % of its sides."""
    whole = Image.fromarray(decode.open_scan(str(path), max_pixels=10**9).to_unit())
    squares = [np.asarray(whole.resize((size_px, size_px), Image.Resampling.BILINEAR))]
    for _ in range(num - 1):
        width, height = (round(side * rng.uniform(0.6, 1.0)) for side in whole.size)
        x, y = rng.integers(whole.width - width + 1), rng.integers(whole.height - height + 1)
        part = whole.crop((x, y, x + width, y + height))
        squares.append(np.asarray(part.resize((size_px, size_px), Image.Resampling.BILINEAR)))
    return squares


def _write(results: dict[tuple[str, str], list[Any]], alarms: dict[str, list[float]], num_seeds: int) -> None:
    names = list(alarms)
    rows = [["own test scans of other patients (false alarms)", *(f"– / {tables.mean_ci(alarms[n])}" for n in names)]]
    for kind in dict.fromkeys(kind for kind, _ in results):
        cells = []
        for name in names:
            aurocs, shares = zip(*results[kind, name], strict=True)
            cells.append(f"{tables.mean_ci(aurocs)} / {tables.mean_ci(shares)}")
        rows.append([kind, *cells])
    notes = (
        "AUROC against the official test's scans / share above the threshold, mean and 95 % interval over "
        f"{num_seeds} seeds. The threshold lets {FALSE_ALARM_RATE:.0%} of held-out scans be called strangers; each "
        "seed fixes it on half of the test's patients and looks at the other half. The model is that of a run on "
        f"kermany with 100 expert labels. {NUM_STRANGERS} strangers a kind and seed; of hip, extremity and CT there is "
        "one real picture each, whole and 39 random rectangles of it, so that their figures say little of hips as such."
    )
    title = "Scans that a model of children's chests does not know"
    header = ("kind", *(f"{name}: AUROC / told" for name in names))
    tables.write("outside", title, f"python -m tests.bench outside --seeds {num_seeds}", header, rows, notes)
