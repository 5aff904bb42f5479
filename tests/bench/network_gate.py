"""Which rule says whether the adapted network answers? Student, network and their mean, out of fold and on a holdout.

One round of labels on each pool, see `network_round`. A run trains the networks of the folds and the one that answers,
whatever the rule in force says of them, and keeps what each candidate is worth out of fold and on the holdout, each
with the temperature, bias and operating point that the product would give it. So every rule is worked out from the
same runs, in `results/network-gate.json`; a run that is in there is not repeated.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.labels.holdout import holdout_truth
from pipeline.learn import rollback
from pipeline.learn.candidate import Candidate
from pipeline.learn.material import Material
from pipeline.learn.network.student import FrozenHeads
from pipeline.measures import calibrate
from pipeline.rounds.run_scans import Dataset
from pipeline.vectors.matrix import Vectors
from tests.bench import tables
from tests.bench.network_round import (
    LABELS,
    MEASURES,
    NUM_FOLDS,
    POOLS,
    SIZE_PX,
    Begun,
    Both,
    Row,
    auroc_of_first_head,
    complete,
    folds,
    known_rows,
    predict,
    worth,
)

CANDIDATES = ("student", "network", "mean")
RULES = {
    "student always": "the frozen student",
    "network, not below": "as in 0.1.0: the network where its out-of-fold AUROC is at most `pseudo.rollback_auroc` "
    "below the student's",
    "network, not surely below": "the network unless its AUROC is below beyond chance",
    "network, not surely worse": "the network unless AUROC, accuracy or Brier score are worse beyond chance",
    "network always": "the network",
    "mean always": "the mean of the calibrated log-probabilities of student and network",
    "mean, not surely worse": "that mean, unless one of the three is worse beyond chance; the product's rule",
}
FILE = tables.RESULTS / "network-gate.json"


def main(data: Path, given: Namespace) -> None:
    """Run what is missing, and write the table after each run."""
    for labels in LABELS if given.labels is None else (given.labels,):
        for seed in range(given.seeds):
            for pool in [given.pool] if given.pool else POOLS:
                complete(FILE, f"{pool}/{labels}/{seed}", data, _judged)
                _write()


def _judged(begun: Begun) -> Row:
    """Each candidate out of fold and on the holdout, and what the rules ask about."""
    heads, config = begun.taught.frozen_heads(), begun.ctx.config
    seed = int(begun.rng.integers(2**31))
    *of_folds, whole = begun.adapter.train(folds(heads, config, seed), seed)
    oof_EC = np.empty_like(heads.student.oof_logit_EC)
    for fold, fit in zip(np.unique(heads.fold_E), of_folds, strict=True):
        oof_EC[heads.fold_E == fold] = fit.logit_HC
    network = Candidate(f"{heads.student.name}+network", whole.trained, predict(begun.adapter, whole.trained), oof_EC)
    mean = _mean(heads.student, network, begun.material)
    of_candidate = dict(zip(CANDIDATES, (heads.student, network, mean), strict=True))
    row: Row = {name: worth(begun, candidate) for name, candidate in of_candidate.items()}
    row["falls"] = {name: _falls(begun, heads.student, of_candidate[name]) for name in CANDIDATES[1:]}
    row |= {"num_expert": len(begun.material.expert_E), "learner": heads.student.name}
    row["first_head"] = auroc_of_first_head(begun, heads)
    _keep_logits(begun, heads, of_candidate)
    return row


def _mean(first: Candidate, second: Candidate, material: Material) -> Candidate:
    """The mean of the calibrated log-probabilities, as `candidate.average` has it of heads."""
    scale, other = (0.5 / candidate.calibration(material)[0] for candidate in (first, second))
    return Candidate(
        "mean",
        Both(),  # type: ignore[arg-type]
        scale * first.logit_NC + other * second.logit_NC,
        scale * first.oof_logit_EC + other * second.oof_logit_EC,
    )


def _falls(begun: Begun, before: Candidate, after: Candidate) -> Row:
    """By how much a candidate is worse out of fold than the student, and whether beyond chance, measure by measure."""
    material, pseudo = begun.material, begun.ctx.config.pseudo
    prob_EC, after_EC = (
        calibrate.apply_temperature(candidate.oof_logit_EC + bias_C, temperature)
        for candidate in (before, after)
        for temperature, bias_C in [candidate.calibration(material)]
    )
    allowed = rollback.Allowed(pseudo.rollback_auroc, pseudo.rollback_accuracy, pseudo.rollback_brier)
    rng = np.random.default_rng(0)
    judged = rollback.falls(prob_EC, after_EC, material.class_E, list(material.group_E), allowed, rng)
    return {fall.measure: {"amount": fall.amount, "beyond_chance": bool(fall.beyond_chance)} for fall in judged}


def _keep_logits(begun: Begun, heads: FrozenHeads, of_candidate: dict[str, Candidate]) -> None:
    """For a closer look: logits of all candidates, in the cache."""
    folder = cache_folder() / "bench" / "network_gate" / "logits"
    folder.mkdir(parents=True, exist_ok=True)
    config = begun.ctx.config
    findings = Dataset.open(begun.ctx).findings
    truth = holdout_truth(begun.ctx.folder, findings)
    rows = Vectors.open(begun.ctx.folder).positions(truth.ids)
    arrays = {"class_E": begun.material.class_E, "fold_E": heads.fold_E, "class_H": truth.class_N}
    arrays["group_E"] = np.array(begun.material.group_E, str)
    for name, candidate in of_candidate.items():
        arrays |= {f"{name}_EC": candidate.oof_logit_EC, f"{name}_HC": candidate.logit_NC[rows]}
    name = f"{'-'.join(findings)}-{len(begun.material.expert_E)}-{config.seed}-{config.splits.holdout_fraction}"
    np.savez(folder / f"{Path(config.pool.uri).stem.split(':')[0]}-{name}.npz", **arrays)


def choice(rule: str, row: Row) -> str:
    """The candidate that answers by a rule."""
    if rule.endswith("always"):
        return rule.split()[0]
    answers = "mean" if rule.startswith("mean") else "network"
    falls = row["falls"][answers]
    if rule == "network, not below":
        worse = falls.get("AUROC", {"amount": 0.0})["amount"] > Config().pseudo.rollback_auroc
    else:
        asked = ("AUROC",) if rule == "network, not surely below" else tuple(falls)
        worse = any(falls[name]["beyond_chance"] for name in asked if name in falls)
    return "student" if worse else answers


def _write() -> None:
    """One line a rule, pool and number of labels; and what the comparison out of fold is worth."""
    known = known_rows(FILE)
    table, notes = [], []
    for labels in LABELS:
        for pool in POOLS:
            runs = [row for key, row in known.items() if key.startswith(f"{pool}/{labels}/")]
            if runs:
                table += [(f"{pool}, {labels}", len(runs), rule, *_cells(rule, runs)) for rule in RULES]
    runs = list(known.values())
    if len(runs) > 1:
        nothing = ["–"] * len(MEASURES)
        cells = {rule: _cells(rule, runs) for rule in RULES}
        table += [
            ("all runs", len(runs), rule, of[0], *nothing, *of[1 + len(MEASURES) :]) for rule, of in cells.items()
        ]
        notes.append(_agreement(runs))
    tables.write(
        "network-gate",
        "Which rule says whether the adapted network answers",
        "python -m tests.bench network_gate",
        (
            "pool, labels",
            "seeds",
            "rule",
            "network answers",
            "AUROC",
            "accuracy",
            "Brier",
            "ECE",
            "AUROC gained",
            "accuracy gained",
        ),
        table,
        "Holdouts of other patients for each seed (kermany: half of those of its training part; the others: three "
        f"tenths; phantom: 600 patients, four classes; nih: the part of covid3 from one source). "
        f"One round of labels, `train.adapt=partial`, {NUM_FOLDS} folds, "
        f"{SIZE_PX} px, other options by default. Mean ± 95 % t-interval over seeds; gained: over the student, paired "
        "by seed. "
        + " ".join(f"*{rule}*: {text}." for rule, text in RULES.items())
        + " Chance: the one-sided 95 % bound of a paired patient-cluster bootstrap. "
        + " ".join(notes),
    )


def _cells(rule: str, runs: list[Row]) -> list[str]:
    chosen = [choice(rule, row) for row in runs]
    used = f"{len(runs) - chosen.count('student')} of {len(runs)}"
    held = [row[name]["holdout"] for row, name in zip(runs, chosen, strict=True)]
    gains = [
        tables.mean_ci([of[name] - row["student"]["holdout"][name] for of, row in zip(held, runs, strict=True)])
        for name in ("auroc", "accuracy")
    ]
    return [used, *(tables.mean_ci([of[name] for of in held]) for name in MEASURES), *gains]


def _agreement(runs: list[Row]) -> str:
    """What the difference out of fold says of that on the holdout."""
    difference = {
        place: np.array([row["network"][place]["auroc"] - row["student"][place]["auroc"] for row in runs])
        for place in ("out_of_fold", "holdout")
    }
    out, held = difference["out_of_fold"], difference["holdout"]
    return (
        f"AUROC of the network less that of the student, over all {len(runs)} runs: out of fold {out.mean():.3f} "
        f"(standard deviation {out.std(ddof=1):.3f}), on the holdout {held.mean():.3f} ({held.std(ddof=1):.3f}), "
        f"correlation of the two {np.corrcoef(out, held)[0, 1]:.2f}; better on the holdout in {(held > 0).sum()} runs, "
        f"out of fold in {(out > 0).sum()}."
    )
