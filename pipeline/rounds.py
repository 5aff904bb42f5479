"""The loop: queue -> labels -> learn -> pseudo-labels -> evaluate, round after round.

A round is finished when its `metrics.json` is there; everything before is repeated on resume, except what people have
seen: a queue once drawn is never drawn again, an answer once given is never asked again.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import calibrate, evaluate, features, labels, propagate, pseudo, queues, run_dir, selftrain
from pipeline.annotators import oracle, sheets
from pipeline.certify import Certificate
from pipeline.clusters import NEIGHBORS, train_ids
from pipeline.context import StageContext
from pipeline.contracts import MANIFEST, POOL_LABELS, PREDICTIONS, PSEUDO, QUEUE, SPLIT_TABLE, write_parquet, write_text
from pipeline.errors import InputError, WaitingForLabels
from pipeline.models import Classifier
from pipeline.queues import Proposals
from pipeline.selftrain import Learned, Material
from pipeline.vectors import Vectors

# N scans with a vector, E expert-labelled, C findings

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Run all rounds, then the random reference where the pool's labels allow one.

    Raises:
        WaitingForLabels: when a queue is not answered yet.
    """
    loop = Loop(ctx)
    loop.take_pool_labels()
    for round_index in range(1, ctx.config.rounds.num + 1):
        ctx.progress("rounds", round_index - 1, ctx.config.rounds.num)
        run_dir.write_status(ctx.folder, "running", "rounds", round_index)
        if not loop.run_round(round_index):
            log.info("round %d: nothing is left to ask and nothing new to learn from; the loop ends here", round_index)
            break
    loop.write_metrics()
    ctx.progress("rounds", ctx.config.rounds.num, ctx.config.rounds.num)
    last = loop.finished()[-1] if loop.finished() else {}
    return {"num_rounds": len(loop.finished()), "num_expert": last.get("num_expert", 0), "num_pseudo": last.get("num_pseudo", 0)}


def findings_of(ctx: StageContext) -> tuple[str, ...]:
    """The classes: as configured, else the pool's labels in sorted order with a normal class first.

    Raises:
        InputError: when there are fewer than two, or the pool holds labels outside the configured ones.
    """
    found = sorted(set(POOL_LABELS.read(ctx.folder)["label"].to_pylist()) - {None})
    given = ctx.config.pool.findings
    if given is not None:
        stray = sorted(set(found) - set(given))
        if stray:
            raise InputError("the pool holds labels outside pool.findings", value=stray, where="pool.findings", fix="add them there")
        return given
    if len(found) < 2:
        raise InputError(
            "one class only, there is nothing to tell apart" if found else "the pool has no labels that name the classes",
            value=found[0] if found else None,
            where="pool.findings",
            fix="name the classes, e.g. --set 'pool.findings=[normal, pneumonia]'",
        )
    normal = [f for f in found if f.casefold() in ("normal", "no finding", "no_finding", "healthy", "negative")]
    return (*normal, *[f for f in found if f not in normal])


class Loop:
    """One run's rounds; holds what does not change from round to round."""

    def __init__(self, ctx: StageContext) -> None:
        self.ctx = ctx
        self.findings = findings_of(ctx)
        self.vectors = Vectors.open(ctx.folder)
        splits = SPLIT_TABLE.read(ctx.folder)
        self.split = dict(zip(splits["image_id"].to_pylist(), splits["split"].to_pylist(), strict=True))
        self.group = dict(zip(splits["image_id"].to_pylist(), splits["group_id"].to_pylist(), strict=True))
        self.train_T = self.vectors.positions(train_ids(splits))
        self.ids_N = self.vectors.ids.to_numpy(zero_copy_only=False).astype(str)
        self.graph_TT = propagate.load(ctx.folder / NEIGHBORS)
        self.x_NP = features.load(ctx.folder)
        self.pool_labels = POOL_LABELS.read(ctx.folder)

    def take_pool_labels(self) -> None:
        """Without an oracle, a label that came with the training pool is an expert label already given."""
        if self.ctx.config.oracle:
            return
        given = [
            labels.Answer(image_id, label, labels.POOL, 0)
            for image_id, label in zip(self.pool_labels["image_id"].to_pylist(), self.pool_labels["label"].to_pylist(), strict=True)
            if label is not None and self.split.get(image_id) == "train"
        ]
        labels.add_answers(self.ctx.folder, given, self.findings)

    def finished(self) -> list[dict[str, Any]]:
        """Metrics of the finished rounds, in order."""
        found = []
        for round_index in range(1, self.ctx.config.rounds.num + 1):
            path = self.ctx.round_folder(round_index) / "metrics.json"
            if not path.exists():
                break
            found.append(json.loads(path.read_text("utf-8")))
        return found

    def write_metrics(self) -> None:
        """`metrics.jsonl`, one line a round."""
        write_text(self.ctx.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.finished()))

    def run_round(self, round_index: int) -> bool:
        """Run one round, or find it finished; False when there was nothing to ask and nothing new to learn from."""
        clock: dict[str, float] = {}
        folder = self.ctx.round_folder(round_index)
        with _timed(clock, "queue"):
            queue = self._queue(round_index)
        with _timed(clock, "labels"):
            answers = self._answers(round_index, queue)
        if len(queue) == 0 and round_index > 1:
            return False
        fingerprint = self._fingerprint(round_index, answers)
        path = folder / "metrics.json"
        if path.exists() and json.loads(path.read_text("utf-8")).get("fingerprint") == fingerprint:
            log.info("round %d: finished before, kept", round_index)
            return True
        row = self._learn(round_index, answers, clock)
        seconds = {name: round(value, 3) for name, value in clock.items()}
        write_text(path, json.dumps({"round": round_index, **row, "seconds": seconds, "fingerprint": fingerprint}))
        self.write_metrics()
        _tell(round_index, row)
        return True

    def _queue(self, round_index: int) -> pa.Table:
        folder = self.ctx.round_folder(round_index)
        if (folder / "queue.parquet").exists():
            queue = QUEUE.read(folder)
        else:
            table = labels.read(self.ctx.folder)
            answered = set(labels.expert_classes(table, self.findings))
            holdout = [] if self.ctx.config.oracle or round_index > 1 else queues.holdout_request(self.ctx, answered)
            queue = queues.draw(
                self.ctx, round_index, answered, self._proposals(round_index - 1),
                strategy=self.ctx.config.strategy.name, holdout=holdout,
            )  # fmt: skip
            QUEUE.write(folder, queue)
        manifest = MANIFEST.read(self.ctx.folder)
        asked = manifest.filter(pc.is_in(manifest["image_id"], value_set=queue["image_id"].combine_chunks()))
        uris = dict(zip(asked["image_id"].to_pylist(), asked["uri"].to_pylist(), strict=True))
        if not (folder / "queue.html").exists():
            sheets.export(folder, queue, uris, self.findings, self.ctx.config.pool.max_pixels)
        return queue

    def _proposals(self, round_index: int) -> Proposals:
        folder = self.ctx.round_folder(round_index)
        if not (folder / "pseudo.parquet").exists():
            return Proposals({})
        table = PSEUDO.read(folder)
        accepted = table.filter(pc.equal(table["decision"], "accept"))
        return Proposals(dict(zip(accepted["image_id"].to_pylist(), accepted["finding"].to_pylist(), strict=True)))

    def _answers(self, round_index: int, queue: pa.Table) -> dict[str, str | None]:
        asked = queue["image_id"].to_pylist()
        if self.ctx.config.oracle:
            given = oracle.answer(asked, self.pool_labels, round_index)
            labels.add_answers(self.ctx.folder, given, self.findings)
        answers = labels.expert_classes(labels.read(self.ctx.folder), self.findings, round_index)
        open_ = [image_id for image_id in asked if image_id not in answers]
        if open_:
            folder = self.ctx.round_folder(round_index)
            raise WaitingForLabels(
                f"round {round_index} waits for {len(open_)} of {len(asked)} labels: fill the label column of "
                f"{folder / 'queue.csv'} (pictures beside it; queue.html shows them all)\n"
                f"then: cxr-ssl labels import {self.ctx.folder} {folder / 'queue.csv'} --annotator NAME "
                f"&& cxr-ssl run --out {self.ctx.folder} --resume"
            )
        return answers

    def _fingerprint(self, round_index: int, answers: dict[str, str | None]) -> str:
        config = self.ctx.config
        before = run_dir.stage_records(self.ctx.folder)
        earlier = self.ctx.round_folder(round_index - 1) / "metrics.json"
        return run_dir.fingerprint(
            {
                "config": {name: getattr(config, name).model_dump() for name in ("train", "calibrate", "pseudo", "evaluate")},
                "seed": config.seed,
                "answers": answers,
                "inputs": before.get("clusters", {}).get("fingerprint"),
                "before": json.loads(earlier.read_text("utf-8")).get("fingerprint") if earlier.exists() else None,
            }
        )

    def _learn(self, round_index: int, answers: dict[str, str | None], clock: dict[str, float]) -> dict[str, Any]:
        ctx, folder = self.ctx, self.ctx.round_folder(round_index)
        material, expert_ids = self.material(answers, self._uniform(round_index))
        certificates = pseudo.certificates(ctx.folder, answers, self.findings, ctx.config.pseudo, round_index)
        row: dict[str, Any] = {"num_expert": len(material.expert_E), "gate": ctx.config.pseudo.gate}
        row["certificates"] = {name: asdict(found) for name, found in certificates.items()}
        row["pseudo_precision_certified"] = certified_bound(certificates)
        if len(np.unique(material.class_E)) < 2:
            log.warning("round %d: all %d expert labels name one class; no classifier yet", round_index, len(material.class_E))
            return row | _nothing_learned(self.findings)
        admitted = pseudo.open_classes(ctx.config.pseudo.gate, self.findings, certificates)
        with _timed(clock, "train"):
            learned = selftrain.learn(material, ctx.config, ctx.engine, len(self.findings), admitted, ctx.rng("learn", round_index))
            model = self._classifier(learned)
            oof_prob_EC = model.probabilities(learned.oof_logit_EC)
        with _timed(clock, "pseudo"):
            auroc, rolled_back = self._compare(round_index, expert_ids, material, oof_prob_EC)
            if rolled_back:
                model = Classifier.load(ctx.round_folder(round_index - 1) / "model")
                found = self._carry_pseudo(round_index, expert_ids)
            else:
                _save_oof(folder, expert_ids, oof_prob_EC, self.findings)
                pseudo.save(folder, self.ids_N[learned.open_T], learned.decisions, learned.threshold_C, self.findings)
                found = PSEUDO.read(folder)
            logit_NC = model.head.logits(self.x_NP) if rolled_back else learned.student_logit_NC
            row |= self._pseudo_row(round_index, learned, found)
        prob_NC = model.probabilities(logit_NC)
        predicted_N = np.asarray((prob_NC / model.weights_C).argmax(1))
        with _timed(clock, "evaluate"):
            row["flip_rate"] = self._flip_rate(round_index, predicted_N)
            row["holdout"] = evaluate.evaluate(ctx, round_index, prob_NC, predicted_N, self.findings)
        row["calibration_auroc"], row["rolled_back"] = auroc, rolled_back
        card = {"round": round_index, "rolled_back": rolled_back, "num_expert": row["num_expert"], "num_pseudo": row["num_pseudo"]}
        model.save(folder / "model", card | self._backbone_card(), features.load_basis(ctx.folder))
        write_text(
            folder / "model" / "training.json",
            json.dumps({name: {"loss": head.loss, "val_loss": head.val_loss or None} for name, head in (("teacher", learned.teacher), ("student", learned.student))}),
        )
        self._write_predictions(round_index, prob_NC, predicted_N)
        return row

    def material(self, answers: dict[str, str | None], uniform: set[str]) -> tuple[Material, list[str]]:
        """What a round learns from, and the ids of its expert-labelled training scans."""
        known = {i: f for i, f in answers.items() if self.split.get(i) == "train"}
        ids, class_E = labels.class_array(known, self.findings)
        has = self.vectors.has(pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
        ids = [image_id for image_id, found in zip(ids, has, strict=True) if found]
        return Material(
            folder=self.ctx.folder,
            train_T=self.train_T,
            expert_E=self.vectors.positions(ids),
            class_E=class_E[has],
            group_E=[self.group[image_id] for image_id in ids],
            uniform_E=np.array([image_id in uniform for image_id in ids], dtype=bool),
            graph_TT=self.graph_TT,
        ), ids

    def _uniform(self, round_index: int) -> set[str]:
        found: set[str] = set()
        for r in range(1, round_index + 1):
            queue = QUEUE.read(self.ctx.round_folder(r))
            found |= set(queue.filter(pc.equal(queue["kind"], "uniform"))["image_id"].to_pylist())
        return found

    def _classifier(self, learned: Learned) -> Classifier:
        weights_C = evaluate.operating_weights(learned.prevalence_C, self.ctx.config.evaluate.operating_point)
        return Classifier(learned.student, self.findings, learned.temperature, learned.prevalence_C, weights_C)

    def _compare(
        self, round_index: int, ids: list[str], material: Material, prob_EC: np.ndarray
    ) -> tuple[float | None, bool]:
        """Out-of-fold AUROC of this round, and whether it is worse than the round before on the same scans."""
        rng = self.ctx.rng("rollback", round_index)
        auroc = oof_auroc(prob_EC, material.class_E)
        before = self.ctx.round_folder(round_index - 1) / "oof.parquet"
        if not before.exists():
            return auroc, False
        import pyarrow.parquet as pq

        table = pq.read_table(before)
        place = {image_id: i for i, image_id in enumerate(ids)}
        rows = [i for i, image_id in enumerate(table["image_id"].to_pylist()) if image_id in place]
        old = np.column_stack([table[f"prob_{f}"].to_numpy() for f in self.findings])[rows]
        now = [place[table["image_id"][i].as_py()] for i in rows]
        drop, surely = auroc_drop(
            old, prob_EC[now], material.class_E[now], [material.group_E[i] for i in now], self.ctx.config.pseudo.rollback_auroc, rng
        )
        if surely:
            log.warning("round %d: calibration AUROC fell by %.3f on the same scans; rolled back to round %d", round_index, drop, round_index - 1)
        elif drop > self.ctx.config.pseudo.rollback_auroc:
            log.info("round %d: calibration AUROC fell by %.3f on %d scans, within its noise; kept", round_index, drop, len(now))
        return auroc, surely

    def _carry_pseudo(self, round_index: int, expert_ids: list[str]) -> pa.Table:
        """After a roll-back the round before goes on: its pseudo-labels less what experts have answered since."""
        before, folder = self.ctx.round_folder(round_index - 1), self.ctx.round_folder(round_index)
        table = PSEUDO.read(before)
        PSEUDO.write(folder, table.filter(pc.invert(pc.is_in(table["image_id"], value_set=pa.array(expert_ids)))))
        write_text(folder / "rolled_back.txt", f"to round {round_index - 1}\n")
        import pyarrow.parquet as pq

        write_parquet(folder / "oof.parquet", pq.read_table(before / "oof.parquet"))
        return PSEUDO.read(folder)

    def _pseudo_row(self, round_index: int, learned: Learned, found: pa.Table) -> dict[str, Any]:
        admitted = found.filter(found["admitted"])
        ids = admitted["image_id"].to_numpy(zero_copy_only=False)
        index = {finding: i for i, finding in enumerate(self.findings)}
        labels.replace_pseudo(
            self.ctx.folder, ids, np.array([index[f] for f in admitted["finding"].to_pylist()], dtype=np.int64),
            admitted["probability"].to_numpy(), self.findings, round_index,
        )  # fmt: skip
        return {
            "num_pseudo": len(admitted),
            "num_accepted": int(pc.sum(pc.equal(found["decision"], "accept")).as_py() or 0),
            "pseudo_share": len(admitted) / max(len(found), 1),
            "pseudo_precision": self._realised(admitted),
            "pseudo_precision_estimated": learned.precision_estimated,
            "threshold_prob": {f: float(t) for f, t in zip(self.findings, learned.threshold_C, strict=True)},
            "temperature": learned.temperature,
            "prevalence": {f: float(p) for f, p in zip(self.findings, learned.prevalence_C, strict=True)},
            "operating_point": self.ctx.config.evaluate.operating_point,
        }

    def _realised(self, admitted: pa.Table) -> float | None:
        """Share of pseudo-labels that agree with the pool's own labels; only an oracle run knows."""
        if not self.ctx.config.oracle or len(admitted) == 0:
            return None
        position = pc.index_in(admitted["image_id"], value_set=self.pool_labels["image_id"].combine_chunks())
        agree = pc.mean(pc.equal(self.pool_labels["label"].take(position), admitted["finding"])).as_py()
        return None if agree is None else float(agree)

    def _flip_rate(self, round_index: int, predicted_N: np.ndarray) -> float | None:
        folder = self.ctx.round_folder(round_index - 1) / "model"
        if not (folder / "card.json").exists():
            return None
        before = Classifier.load(folder)
        prob_TC = before.probabilities(before.head.logits(self.x_NP[self.train_T]))
        return float(((prob_TC / before.weights_C).argmax(1) != predicted_N[self.train_T]).mean())

    def _write_predictions(self, round_index: int, prob_NC: np.ndarray, predicted_N: np.ndarray) -> None:
        names = np.array(self.findings, dtype=object)
        table = pa.table(
            {
                "image_id": self.ids_N,
                "split": [self.split[image_id] for image_id in self.ids_N],
                "round": np.full(len(self.ids_N), round_index, np.int32),
                "predicted": names[predicted_N],
            },
            schema=PREDICTIONS.schema,
        )
        for c, finding in enumerate(self.findings):
            table = table.append_column(f"prob_{finding}", pa.array(prob_NC[:, c].astype(np.float32)))
        PREDICTIONS.write(self.ctx.folder, table)

    def _backbone_card(self) -> dict[str, Any]:
        path = self.ctx.folder / "backbone.json"
        return {"backbone": json.loads(path.read_text("utf-8")) if path.exists() else None}


def certified_bound(certificates: dict[str, Certificate]) -> float | None:
    """Lower bound over all classes; None before the first blind check."""
    pooled = certificates["pooled"]
    return pooled.lower_bound if pooled.num_checked > 0 else None


def oof_auroc(prob_EC: np.ndarray, class_E: np.ndarray) -> float | None:
    """Macro one-vs-rest AUROC of out-of-fold probabilities; None where one class only."""
    from sklearn.metrics import roc_auc_score

    values = [
        roc_auc_score(class_E == c, prob_EC[:, c]) for c in range(prob_EC.shape[1]) if 0 < (class_E == c).sum() < len(class_E)
    ]
    return float(np.mean(values)) if values else None


def auroc_drop(
    old_EC: np.ndarray, new_EC: np.ndarray, class_E: np.ndarray, group_E: list[str], allowed: float, rng: np.random.Generator
) -> tuple[float, bool]:
    """How much AUROC fell on the same scans, and whether by more than `allowed` beyond chance.

    Beyond chance: the one-sided 95 % bound of a paired patient-cluster bootstrap is above zero. On a few dozen scans
    one swapped pair moves AUROC by a point, so the point estimate alone would roll back every other good round.
    """
    old, new = oof_auroc(old_EC, class_E), oof_auroc(new_EC, class_E)
    if old is None or new is None:
        return 0.0, False
    if old - new <= allowed:
        return old - new, False
    group_index = calibrate.group_index(group_E)
    members = [np.flatnonzero(group_index == g) for g in range(int(group_index.max()) + 1)]
    drops = []
    for _ in range(200):
        rows = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        pair = oof_auroc(old_EC[rows], class_E[rows]), oof_auroc(new_EC[rows], class_E[rows])
        if pair[0] is not None and pair[1] is not None:
            drops.append(pair[0] - pair[1])
    return old - new, len(drops) >= 100 and float(np.quantile(drops, 0.05)) > 0.0


def _nothing_learned(findings: tuple[str, ...]) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("pseudo_precision", "pseudo_precision_estimated", "temperature", "calibration_auroc", "flip_rate", "holdout", "operating_point")
    )
    return empty | {
        "num_pseudo": 0, "num_accepted": 0, "pseudo_share": 0.0, "rolled_back": False,
        "threshold_prob": dict.fromkeys(findings), "prevalence": dict.fromkeys(findings),
    }  # fmt: skip


def _save_oof(folder: Path, ids: list[str], prob_EC: np.ndarray, findings: tuple[str, ...]) -> None:
    columns: dict[str, Any] = {"image_id": ids}
    columns |= {f"prob_{finding}": prob_EC[:, c] for c, finding in enumerate(findings)}
    write_parquet(folder / "oof.parquet", pa.table(columns))


def _tell(round_index: int, row: dict[str, Any]) -> None:
    def show(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    holdout = row["holdout"] or {}
    log.info(
        "round %d: %d expert labels, %d pseudo-labels (estimated precision %s, certified at least %s); holdout AUROC %s, accuracy %s",
        round_index, row["num_expert"], row["num_pseudo"], show(row["pseudo_precision_estimated"]),
        show(row["pseudo_precision_certified"]), show(holdout.get("auroc")), show(holdout.get("accuracy")),
    )  # fmt: skip


@contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - start
