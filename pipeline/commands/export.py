"""`cxr-ssl export`: the run's classifier for use elsewhere, from scan to probability, with its preprocessing and card.

The ONNX file is checked against torch and against what the run itself predicted, on scans of the run; the largest
differences are written into the card.
"""

import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from embeddings import activations, extract
from embeddings.backbones import Backbone
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, PREDICTIONS, write_bytes, write_text
from pipeline.learn.classifier import Classifier, preprocessing
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Design, Frozen
from pipeline.pool import whites
from pipeline.predict import calibration, outside
from pipeline.predict.exported import files as exported_files
from pipeline.predict.exported import module as exported_module
from pipeline.runtime import finding_folders, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import has_classifier
from pipeline.runtime.run_dir import config_of
from pipeline.vectors import principal_components
from pipeline.vectors.embed import unchanged

if TYPE_CHECKING:
    from torch import nn

# N scans, S side in pixels, D dimensions of the embedding, P features, C findings

NUM_CHECKED = 32
# Embeddings are rounded to half precision, as in the run: another machine may round a number the other way.
TOLERANCE_TORCH, TOLERANCE_RUN = 1e-3, 0.02
FILES = (
    run_files.MODEL_ONNX,
    run_files.MODEL_WEIGHTS,
    "preprocessing.json",
    run_files.CARD,
    "MODEL_CARD.md",
    exported_files.SCRIPT,
    exported_files.ARRAYS,
    exported_files.FOLDER,
)


@dataclass(frozen=True)
class _Check:
    """Largest absolute differences of probabilities."""

    num_scans: int
    onnx_against_torch: float
    onnx_against_run: float


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write `FILES` into `out`.

    Args:
        run: Run directory with a finished round.
        out: New or empty folder.

    Returns:
        {"out", "round", "input", "check"}.

    Raises:
        RunDirError: no round has learned anything yet, or `out` is not empty.
        InputError: the backbone of the run cannot be had here, or the check fails.
    """
    config, out = config_of(run), out.absolute()
    last = run_files.last_round(run)
    home = run_files.round_folder(run, last or 0) / run_files.MODEL
    if not (home / run_files.CARD).exists():
        raise RunDirError(
            "no round of this run has learned a classifier yet",
            value=str(run),
            where="RUN",
            fix="finish a round with labels of two classes first",
        )
    if out.exists() and any(out.iterdir()):
        raise RunDirError("the folder is not empty", value=str(out), where="--out", fix="name a new one")
    model = Classifier.load(home)
    card = json.loads((home / run_files.CARD).read_text("utf-8"))
    module = _module(run, unchanged(StageContext(config, run, SerialEngine())), config, model, card)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    partial.mkdir(parents=True)
    try:
        check = _write(partial, run, config, module, model, card)
        if out.exists():
            out.rmdir()  # it is empty
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {
        "out": str(out),
        "round": card["round"],
        "input": card.get("input", "embedding"),
        "check": asdict(check),
    }


def _write(
    out: Path, run: Path, config: Config, module: "nn.Module", model: Classifier, card: dict[str, Any]
) -> _Check:
    """Write all files, the checked model first."""
    _write_model(module, config.preprocess.size_px, model.findings, out)
    check = _checked(run, config, module, model, out)
    steps = preprocessing(config) | _reading(run, config)
    write_text(out / "preprocessing.json", json.dumps(steps, indent=1))
    write_text(
        out / run_files.CARD,
        json.dumps(
            card
            | {"input": "scan", "preprocessing": steps, "check": asdict(check)}
            | {"false_alarm_rate": config.predict.false_alarm_rate},
            indent=1,
        ),
    )
    exported_files.write(out, outside.of_run(run), calibration.of_round(run, card["round"], model))
    page = run / run_files.MODEL_CARD
    text = page.read_text("utf-8") if page.exists() else "# Model card\n\nThe run has no report yet.\n"
    write_text(out / "MODEL_CARD.md", text)
    return check


def _reading(run: Path, config: Config) -> dict[str, Any]:
    """What the run has decided about reading: the white of files that leave it open, and what is set aside."""
    white = whites.of_run(run, config.pool.white)
    return {
        "white": white if isinstance(white, int) else None,
        "whites": list(white) if isinstance(white, tuple) else [],
        "max_pixels": config.pool.max_pixels,
        "set_aside": list(config.pool.set_aside),
    }


def _module(run: Path, backbone: Backbone, config: Config, model: Classifier, card: dict[str, Any]) -> "nn.Module":
    """The classifier as one torch module, see `exported_module`."""
    size_px = config.preprocess.size_px
    embedder = extract.build(backbone, config.embed.features, size_px)
    basis = principal_components.load_basis(run)
    if isinstance(model.model, Head):
        assert model.mean_D is not None
        assert model.basis_DP is not None
        head = network_design.head_module(model.head)
        own_basis = (model.mean_D, model.basis_DP)
        return exported_module.of_head(embedder, basis, own_basis, head, model.temperature, model.prevalence_C)
    from safetensors.torch import load_file

    assert isinstance(model.model, Path)
    network_card = card["network"]
    design = Design(backbone, network_card["num_early"], size_px, _zeros(network_card["head"]))
    frozen_card = network_card.get("frozen")
    frozen = None if frozen_card is None else Frozen(_zeros(frozen_card["head"]), frozen_card["features"])
    whole = network_design.around(network_design.late(design), design, frozen)
    whole.load_state_dict(load_file(model.model.with_name(run_files.MODEL_WEIGHTS)))
    return exported_module.of_network(embedder, basis, whole, model.temperature, model.prevalence_C)


def _zeros(shapes: dict[str, list[int]]) -> Head:
    """A head of these shapes, whose numbers are still to be read."""
    return Head({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


def _write_model(module: "nn.Module", size_px: int, findings: tuple[str, ...], out: Path) -> None:
    from safetensors.numpy import save

    exported_module.write(module, size_px, out / run_files.MODEL_ONNX, findings)
    arrays = {name: np.ascontiguousarray(value) for name, value in network_design.take(module).items()}
    write_bytes(out / run_files.MODEL_WEIGHTS, save(arrays))


def _checked(run: Path, config: Config, module: "nn.Module", model: Classifier, out: Path) -> _Check:
    """Compare ONNX, torch and the run's own predictions on scans spread over the run."""
    import onnxruntime as ort
    import torch

    table = PREDICTIONS.read(run)
    table = table.take(np.unique(np.linspace(0, len(table) - 1, NUM_CHECKED).astype(np.int64)))
    manifest = run_files.read(run, MANIFEST, ["image_id", "uri"])
    place = pc.index_in(table["image_id"], value_set=manifest["image_id"].combine_chunks())
    size_px, max_pixels = config.preprocess.size_px, config.pool.max_pixels
    scans = [activations.load(uri, size_px, max_pixels)[None] for uri in manifest["uri"].take(place).to_pylist()]
    session = ort.InferenceSession(str(out / run_files.MODEL_ONNX), providers=["CPUExecutionProvider"])
    onnx_NC = np.concatenate([session.run(["probability"], {"scan": scan})[0] for scan in scans])
    with torch.inference_mode():
        torch_NC = np.concatenate([module(torch.from_numpy(np.array(scan)))[1].numpy() for scan in scans])
    run_NC = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in model.findings])
    check = _Check(len(scans), float(np.abs(onnx_NC - torch_NC).max()), float(np.abs(onnx_NC - run_NC).max()))
    if check.onnx_against_torch > TOLERANCE_TORCH or check.onnx_against_run > TOLERANCE_RUN:
        raise InputError(
            "the exported model does not give the probabilities of the run",
            value=str(check),
            where=str(run),
            fix="`cxr-ssl run --out RUN --resume` renews the predictions; if it stays, this is a mistake of cxr-ssl",
        )
    return check


def export_model(run: Path, out: Path) -> dict[str, Any]:
    """Write the classifier of a run, of independent findings each into a folder of its own; see `export.export`.

    Returns:
        What that returns; of independent findings {"out", "findings": {finding: what it returns}}.

    Raises:
        RunDirError: `out` is not empty, or no finding has a classifier yet.
    """
    findings = finding_folders.parts_in(run)
    if not findings:
        return export(run, out)
    out = out.absolute()
    if out.exists() and any(out.iterdir()):
        raise RunDirError("the folder is not empty", value=str(out), where="--out", fix="name a new one")
    parts = {f: part for f, part in findings.items() if has_classifier(f, part)}
    if not parts:
        raise RunDirError(
            "no finding has a classifier yet", where=run, fix="go on with `cxr-ssl run --out RUN --resume` first"
        )
    return {"out": str(out), "findings": {finding: export(part, out / part.name) for finding, part in parts.items()}}
