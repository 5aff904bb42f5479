"""Another pool, read with a run's own options and backbone: what it shares with the run, and the run's logits of it."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings import backbones
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import KNOWN_COLUMNS
from pipeline.contracts.tables import MANIFEST
from pipeline.learn.classifier import Classifier
from pipeline.learn.network import predict_scans
from pipeline.pool import whites
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors.matrix import Vectors


@dataclass(frozen=True)
class Shared:
    """Scans of another pool that are in the run already.

    Attributes:
        num_patients: Patients that both have.
        num_copies: Pictures that both have.
        ids: image_id, in the other pool, of every scan of those.
    """

    num_patients: int
    num_copies: int
    ids: frozenset[str]


@contextmanager
def opened(
    ctx: StageContext, folder: Path, pool: str, overrides: dict[str, Any], read: Callable[[StageContext], object]
) -> Iterator[StageContext]:
    """Another pool, read and embedded into a folder of the run with the run's options and backbone.

    A folder that was begun for a pool that is then refused, here or by the caller, is taken away again.

    Args:
        ctx: The run.
        folder: Where to.
        pool: Its address.
        overrides: Options for that pool, such as `pool.columns`.
        read: The stages that read it; at least manifest and embed.

    Raises:
        InputError: it cannot be read, or is embedded in another way than the run's scans.
    """
    there = StageContext(_config_there(ctx.folder, pool, overrides), folder, ctx.engine, ctx.progress)
    begun = folder.exists()
    try:
        run_dir.write_config(folder, there.config)
        read(there)
        _check_same_input(ctx.folder, folder)
        yield there
    except InputError:
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _config_there(home: Path, pool: str, overrides: dict[str, Any]) -> Config:
    """The run's configuration for another pool, read with the run's white; its column names only where they fit."""
    from pipeline.pool.sources import open_pool

    plain: dict[str, Any] = {
        "pool.uri": pool,
        "pool.root": None,
        "pool.findings": None,
        "pool.positive": None,
        "oracle": False,
        "splits.holdout_source": None,
    }
    here = config_file.load(home / run_files.RESOLVED).pool
    plain["pool.white"] = whites.of_run(home, here.white)
    if here.finding is not None:  # of the columns of all findings, that of this one
        kept = {name: own for name, own in here.columns.items() if name in (*KNOWN_COLUMNS, here.finding)}
        plain["pool.columns"] = kept
    pretrained = run_files.path(home, run_files.PRETRAINED)
    if (pretrained / backbones.CARD).exists():  # it is used, not made again
        plain |= {"pretrain.epochs": 0, "backbone.name": str(pretrained.absolute()), "backbone.weights": None}
    config = config_file.load(home / run_files.RESOLVED, plain | overrides)
    try:
        open_pool(config.pool, cache_folder())
    except InputError:
        other = plain | {"pool.columns": {}, "pool.patient_regex": None} | overrides
        config = config_file.load(home / run_files.RESOLVED, other)
        try:
            open_pool(config.pool, cache_folder())
        except InputError:
            if not config.pool.where or "pool.where" in overrides:
                raise
            config = config_file.load(home / run_files.RESOLVED, other | {"pool.where": {}})
            open_pool(config.pool, cache_folder())
            logging.getLogger(__name__).warning("pool.where cannot be asked of %s, so all of its scans are taken", pool)
    return config


def _check_same_input(home: Path, there: Path) -> None:
    """Refuse to score a model on what another backbone, or another size, makes of the scans."""
    cards = (run_files.path(folder, run_files.BACKBONE) for folder in (home, there))
    own_card, other_card = (json.loads(card.read_text("utf-8")) for card in cards)
    options = (("weights_hash", "backbone"), ("normalisation", "backbone.mean"), ("pooling", "backbone.pooling"))
    for key, where in (*options, ("size_px", "preprocess.size_px"), ("features", "embed.features")):
        own, other = own_card.get(key), other_card.get(key)
        if own != other:
            raise InputError(
                f"the run's model was made for another input: {key} {own}, here it is {other}",
                value=str(other),
                where=where,
                fix="leave these options to the run's own configuration",
            )


def usable_scans(folder: Path) -> pa.Table:
    """Rows of the manifest whose status is ok."""
    manifest = run_files.read(folder, MANIFEST)
    return manifest.filter(pc.equal(manifest["status"], "ok"))


def embedded_scans(folder: Path) -> pa.Table:
    """Manifest rows of the scans that have a vector."""
    scans = usable_scans(folder)
    return scans.filter(Vectors.open(folder).has(scans["image_id"]))


def shared(ctx: StageContext, own_scans: pa.Table, other_scans: pa.Table) -> Shared:
    """Scans of another pool whose patient or picture is also among the run's own scans.

    Args:
        ctx: The run: when two pictures count as one, and where they are compared.
        own_scans: Manifest rows of the run.
        other_scans: Manifest rows of the other pool.
    """
    from pipeline.pool.duplicates import near_links_between

    patients = own_scans["patient_id"].drop_null().combine_chunks()
    of_patients = other_scans.filter(pc.is_in(other_scans["patient_id"], value_set=patients))
    near = near_links_between(own_scans, other_scans, ctx.engine, ctx.config.duplicates, ctx.config.pool.max_pixels)
    copies = {other_scans["image_id"][int(row)].as_py() for row in near}
    num_patients = len(pc.unique(of_patients["patient_id"]))
    return Shared(num_patients, len(copies), frozenset(copies | set(of_patients["image_id"].to_pylist())))


def last_classifier(folder: Path) -> Classifier:
    """The classifier of the run's last finished round."""
    return Classifier.load(run_files.round_folder(folder, run_files.last_round(folder) or 0) / run_files.MODEL)


def logits(there: StageContext, model: Classifier, image_ids: list[str]) -> np.ndarray:
    """Logits (S, C) of scans of another pool that have a vector: a head sees those, a network the scans."""
    if isinstance(model.model, Path):
        manifest = run_files.read(there.folder, MANIFEST, ["image_id", "uri"])
        place = pc.index_in(pa.array(image_ids, pa.string()), value_set=manifest["image_id"].combine_chunks())
        return predict_scans.predict(there, model.model, manifest["uri"].take(place).to_pylist(), "logit")
    vectors = Vectors.open(there.folder)
    places = vectors.positions(image_ids)
    assert len(places) == len(image_ids)
    return model.logits(vectors.emb_ND, places, there.engine)


def folder_name(pool: str) -> str:
    """A folder's name for a pool: readable, and its own for every address."""
    path = pool.rstrip("/").removesuffix("/manifest.csv").removesuffix(f"/{MANIFEST.file}")
    words = re.sub(r"[^A-Za-z0-9]+", "-", path.rsplit("/", 1)[-1]).strip("-")[:40] or "pool"
    return f"{words}-{hashlib.sha256(pool.encode()).hexdigest()[:6]}"
