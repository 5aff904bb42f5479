"""The adapted networks of a run's questions: one that several findings share runs once a scan, with a head for each.

A finding's `model.onnx` holds its whole network. Where findings have learned together (`train.findings: together`)
those differ in their heads alone; the first one's file is then run up to its heads, and the heads are applied here. A
network has one head, or two whose logits are added: its own, and one on what the network was before it learned.

Legend: N scans, S side in pixels, D dimensions of the embedding, C classes of a question.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embeddings import onnx_file
from pipeline.runtime import run_files

log = logging.getLogger(__name__)
HEAD_ARRAY = ".head."  # in the name of an array of a network's head
_WEIGHT, _BIAS = "0.weight", "0.bias"  # of a linear one, after that


class _Head(NamedTuple):
    weight_CD: np.ndarray
    bias_C: np.ndarray


class _Body(NamedTuple):
    """A network without its heads.

    Attributes:
        session: Gives what each head sees.
        outputs: Names of these outputs, by the head.
    """

    session: Any
    outputs: dict[str, str]

    def embeddings(self, scan_N1SS: np.ndarray) -> dict[str, np.ndarray]:
        """What each head sees of each scan, (N, D), float64."""
        names = list(self.outputs.values())
        rows = [self.session.run(names, {"scan": scan[None]}) for scan in scan_N1SS]
        of_head = zip(self.outputs, zip(*rows, strict=True), strict=True)
        return {head: np.concatenate(parts).astype(np.float64) for head, parts in of_head}


class Networks:
    """Runs networks over scans, one scan at a time, as a run does.

    Args:
        models: Name to a network's ONNX file, with its weights beside it.
        num_threads: Of each session.
    """

    def __init__(self, models: Mapping[str, Path], num_threads: int) -> None:
        bodies: dict[str, list[str]] = {}
        for name, model in models.items():
            key = _body_of(model.with_name(run_files.MODEL_WEIGHTS)) if len(models) > 1 else name
            bodies.setdefault(key, []).append(name)
        self._alone: dict[str, Any] = {}
        self._shared: list[tuple[_Body, dict[str, dict[str, _Head]]]] = []
        for names in bodies.values():
            cut = _up_to_heads(models[names[0]], num_threads) if len(names) > 1 else None
            if cut is None:
                self._alone |= {name: onnx_file.session(models[name], num_threads) for name in names}
            else:
                self._shared.append((cut, {name: _heads_of(models[name]) for name in names}))

    def logits(self, scan_N1SS: np.ndarray) -> dict[str, np.ndarray]:
        """Logits (N, C) of every network, by its name."""
        logits: dict[str, np.ndarray] = {}
        for name, session in self._alone.items():
            logits[name] = _one_by_one(session, "logit", scan_N1SS)
        for body, heads_of in self._shared:
            embeddings = body.embeddings(scan_N1SS)
            for name, heads in heads_of.items():
                parts = [embeddings[key] @ head.weight_CD.T + head.bias_C for key, head in heads.items()]
                logits[name] = np.sum(parts, axis=0).astype(np.float32)
        return logits


def _one_by_one(session: Any, output: str, scan_N1SS: np.ndarray) -> np.ndarray:
    return np.concatenate([session.run([output], {"scan": scan[None]})[0] for scan in scan_N1SS])


def _body_of(weights: Path) -> str:
    """A hash of all of a network but its head; of the file's name too, where the head is not a linear one."""
    from safetensors.numpy import load_file

    arrays, digest = load_file(weights), hashlib.sha256()
    for name in sorted(arrays):
        if HEAD_ARRAY not in name:
            digest.update(name.encode())
            digest.update(arrays[name].tobytes())
        elif not name.endswith((HEAD_ARRAY + _WEIGHT, HEAD_ARRAY + _BIAS)):
            digest.update(str(weights).encode())
    return digest.hexdigest()


def _heads_of(model: Path) -> dict[str, _Head]:
    """The linear heads of a network, by the beginning of their arrays' names."""
    from safetensors.numpy import load_file

    arrays = load_file(model.with_name(run_files.MODEL_WEIGHTS))
    names = sorted(name.removesuffix(_WEIGHT) for name in arrays if name.endswith(HEAD_ARRAY + _WEIGHT))
    return {
        name: _Head(arrays[name + _WEIGHT].astype(np.float64), arrays[name + _BIAS].astype(np.float64))
        for name in names
    }


def _up_to_heads(model: Path, num_threads: int) -> _Body | None:
    """The network without its heads; None where the file does not show them."""
    import onnx
    from onnx import helper

    network, heads = onnx.load(model), _heads_of(model)
    graph = network.graph
    outputs = {
        head: node.input[0]
        for node in graph.node
        for name in node.input
        for head in heads
        if name.endswith(f"{head}{_WEIGHT}")
    }
    if not heads or set(outputs) != set(heads):
        log.info("%s does not show its head: every finding's network is run by itself", model)
        return None
    del graph.output[:]
    for name in dict.fromkeys(outputs.values()):
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return _Body(onnx_file.session(network.SerializeToString(), num_threads), outputs)
