"""Do heat maps point at the opacity? Phantoms know where theirs are; and what the checks of the run itself say.

A run on phantoms learns a head from 160 labels, and one on kermany a head from 100; each then adapts the last stages.
Of new phantoms of the same two hospitals the hottest point of the map of the finding they show is compared with the
pixels that their opacities changed (by at least 30 % of the most, between the picture with and without them). Chance:
how often the hottest point of one lies in the opacity of another.

Shapes: N scans, S side.
"""

import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.ndimage import gaussian_filter

from pipeline.commands import request, run
from pipeline.contracts.cache import cache_folder
from pipeline.pool.phantoms import PhantomScan, PhantomSpec, plan, render
from pipeline.predict import other_scans, predictor, recipe
from pipeline.predict.heat_maps import checks, occlusion, of_run, shuffled
from pipeline.predict.heat_maps.occlusion import Drops
from pipeline.predict.heat_maps.planted import Planted
from pipeline.runtime import run_files
from tests.bench import tables
from tests.bench.outside import kermany_run

SCANS = {"pneumonia": 20, "effusion": 14, "nodule": 14}  # of each finding
NEAR_SHARE = 1 / 12  # of the side: half a patch
INSIDE = 0.3
NUM_SHUFFLED = 6


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/heat-maps.md`."""
    phantoms = phantom_run()
    rows = _rows("phantoms: head", phantoms)
    _write(rows)
    kermany = kermany_run(data)
    for name, run_folder in (("kermany: head", kermany), ("kermany: last stages", adapted_run(kermany))):
        rows += _own_checks(name, _model(run_folder)) if name.endswith("head") else _adapted_rows(name, run_folder)
        _write(rows)
    _write([*rows, *_adapted_rows("phantoms: last stages", adapted_run(phantoms))])


def _model(folder: Path) -> predictor.Predictor:
    return predictor.load(recipe.of_run(folder, other_scans.config_for(folder, "phantom:", {})))


def _adapted_rows(name: str, folder: Path) -> list[list[str]]:
    """The run's own checks of an adapted network; that it was not used where its gate refused it."""
    row = run_files.finished_rows(folder, 100)[-1]
    gain = row["network_gain"]
    if not row["learner"].endswith("+network"):  # what the run uses is the head it had
        return [[name, "all", f"out-of-fold AUROC {gain:+.3f} against the head: not used", "", "", "", ""]]
    return _own_checks(name, _model(folder))


def _rows(learner: str, folder: Path) -> list[list[str]]:
    """The rows of one run."""
    model = _model(folder)
    size_px = model.recipe.size_px
    scans = _scans(size_px)
    known = of_run.checked(model)
    drops = [occlusion.drops(square_SS, model.evidence) for square_SS, _, _ in scans]
    rows = []
    for finding in SCANS:
        own = [n for n, (_, _, shown) in enumerate(scans) if shown == finding]
        masks = [scans[n][1] for n in own]
        plain = [occlusion.spread(drops[n][finding], size_px) for n in own]
        heat = [known.references[finding].heat(drops[n][finding], size_px) for n in own]
        rows.append([learner, finding, "drops alone", *_pointed(plain, masks), ""])
        alike = _similarity(model, scans, own, drops)
        rows.append([learner, finding, "compared with other scans", *_pointed(heat, masks), alike])
    return rows + _own_checks(learner, model)


def _own_checks(learner: str, model: predictor.Predictor) -> list[list[str]]:
    """What the run itself finds of its maps."""
    rows = []
    for finding, check in of_run.checked(model).checks.items():
        inside = f"{check.num_inside} of {check.num_planted}"
        chance = "" if check.chance is None else f"{check.chance:.2f}"
        alike = ", ".join(f"{what} {value:.2f}" for what, value in check.similarity.items())
        rows.append([learner, finding, f"the run's own check: {check.reason or 'shown'}", inside, chance, "", alike])
    return rows


def _write(rows: list[list[str]]) -> None:
    notes = (
        "160 expert labels of phantoms, 100 of kermany, 224 px; a head on the frozen network, or its last stages "
        "adapted (`train.adapt=partial`) on the same labels. Inside: scans whose hottest point is in an opacity, with "
        "a 95 % Clopper-Pearson interval; within half a patch: at most a twelfth of the side away. The first two rows "
        "of a finding are of new phantoms with their own opacities, whatever the model says of them; the run's own "
        "check plants opacities into scans of its training pool and looks at those that raise the finding. Similarity: "
        f"mean absolute rank correlation with maps of shuffled weights ({NUM_SHUFFLED} scans)."
    )
    header = (
        "learns",
        "finding",
        "map",
        "inside",
        "chance",
        "within half a patch (chance)",
        "similarity to shuffled weights",
    )
    title = "Heat maps on opacities whose place is known"
    tables.write("heat-maps", title, "python -m tests.bench heat_maps", header, rows, notes)


def adapted_run(frozen: Path) -> Path:
    """The same run whose last round adapts the last stages of the network; made once and kept in the cache."""
    folder = frozen.with_name(f"{frozen.name}-adapted")
    if not folder.exists():
        shutil.copytree(frozen, folder)
    run.execute(request.Request(overrides={"train.adapt": "partial"}, out=folder, resume=True, quiet=True))
    return folder


def phantom_run() -> Path:
    """A run on phantoms with 160 expert labels, made once and kept in the cache."""
    folder = cache_folder() / "bench" / "predict" / "phantoms"
    wanted = {
        "pool.uri": "phantom:num_patients=400,seed=3",
        "rounds.num": 2,
        "queue.budget": 80,
        "oracle": True,
        "rounds.reference": False,
        "stop.advise": False,
        "engine.backend": "serial",
    }
    run.execute(request.Request(overrides=wanted, out=folder, resume=True, quiet=True))
    return folder


def _scans(size_px: int) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """New phantoms: square, where their opacities are, and what they show."""
    spec, left = PhantomSpec(num_patients=250, seed=77, size_px=size_px), dict(SCANS)
    found = []
    for scan in plan(spec):
        if scan.duplicate_of is not None or left.get(scan.true_label, 0) == 0:
            continue
        left[scan.true_label] -= 1
        square_SS = _square(scan, spec)
        change_SS = gaussian_filter(np.abs(square_SS - _square(replace(scan, opacities=()), spec)), 1.0)
        found.append((square_SS, change_SS >= INSIDE * change_SS.max(), scan.true_label))
    return found


def _square(scan: PhantomScan, spec: PhantomSpec) -> np.ndarray:
    return render(scan, spec).astype(np.float32) / np.float32(255)


def _pointed(maps: list[np.ndarray], masks: list[np.ndarray]) -> list[str]:
    """Share inside with its interval, chance, and share near."""
    points = [occlusion.hottest(heat_SS) for heat_SS in maps]
    inside_NN = np.array([[point is not None and bool(mask_SS[point]) for mask_SS in masks] for point in points])
    near_NN = np.array([[point is not None and _is_near(point, mask_SS) for mask_SS in masks] for point in points])
    num, hits = len(maps), int(np.trace(inside_NN))
    low, high = stats.binomtest(hits, num).proportion_ci(method="exact")
    near = f"{np.trace(near_NN) / num:.2f} ({_off(near_NN):.2f})"
    return [f"{hits} of {num} ({low:.2f} to {high:.2f})", f"{_off(inside_NN):.2f}", near]


def _is_near(point: tuple[int, int], mask_SS: np.ndarray) -> bool:
    rows, columns = np.nonzero(mask_SS)
    distance_px = np.hypot(rows - point[0], columns - point[1]).min()
    return bool(distance_px <= NEAR_SHARE * len(mask_SS))


def _off(values_NN: np.ndarray) -> float:
    num = len(values_NN)
    return float((values_NN.sum() - np.trace(values_NN)) / (num * (num - 1)))


def _similarity(
    model: predictor.Predictor, scans: list[tuple[np.ndarray, np.ndarray, str]], own: list[int], drops: list[Drops]
) -> str:
    """Of a finding's first scans, the maps compared with those of a shuffled head."""
    other = shuffled.models(model, np.random.default_rng(1))[shuffled.HEAD]
    chosen = own[:NUM_SHUFFLED]
    planted = [Planted(square_SS, mask_SS) for square_SS, mask_SS, _ in scans]
    found = checks.similarities(other, planted, dict(enumerate(drops)), {scans[own[0]][2]: chosen})
    return f"{shuffled.HEAD} {next(iter(found.values())):.2f}"
