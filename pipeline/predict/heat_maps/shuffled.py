"""A run's model with shuffled weights: as large, as deep, and without what it has learned.

Legend: N scans, S side in pixels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import onnx_file
from pipeline.learn.classifier import Classifier
from pipeline.learn.network.exported import HEAD_ARRAY
from pipeline.predict.heat_maps.occlusion import Evidence
from pipeline.predict.predictor import Predictor

HEAD, ALL = "the head", "all layers"
_FEWEST = 16  # weights of an array that is shuffled; smaller ones hold scales and means of grey


def models(model: Predictor, rng: np.random.Generator) -> dict[str, Evidence]:
    """The model with shuffled weights, by what is shuffled: the head, and all layers.

    The head of a network of the run's own is its end; where the file does not show it, all layers alone are shuffled.
    The embedding network is shuffled where it is a file; one that runs through torch stays as it is.

    Args:
        model: A run's.
        rng: Shuffles.
    """
    shuffled: dict[str, Evidence] = {}
    if all(of.network is None or shows_head(of.network) for of in model.answerers.values()):
        shuffled[HEAD] = Shuffled(model, rng, with_body=False)
    if not model.has_heads or model.recipe.embedder is not None:
        shuffled[ALL] = Shuffled(model, rng, with_body=True)
    return shuffled


class Shuffled:
    """Says the evidence of a shuffled model; called like `Predictor.evidence`.

    Args:
        model: The model as it is.
        rng: Shuffles.
        with_body: Whether networks are shuffled too, not heads alone.
    """

    def __init__(self, model: Predictor, rng: np.random.Generator, *, with_body: bool) -> None:
        self._model = model
        embedder = model.recipe.embedder
        self._embedder = _session(embedder, rng) if with_body and embedder is not None and model.has_heads else None
        self._heads: dict[str | None, Classifier] = {}
        self._networks: dict[str | None, Any] = {}
        for finding, of in model.answerers.items():
            if of.network is None:
                arrays = {name: _shuffled(value, rng) for name, value in of.model.head.arrays.items()}
                self._heads[finding] = replace(of.model, model=replace(of.model.head, arrays=arrays))
            else:
                self._networks[finding] = _session(of.network, rng, HEAD_ARRAY if not with_body else "")

    def __call__(self, scan_N1SS: np.ndarray) -> dict[str, np.ndarray]:
        """Evidence (N,) of each finding."""
        answerers, evidence = self._model.answerers, dict[str, np.ndarray]()
        if self._heads:
            emb_ND = self._embeddings(scan_N1SS)
            for finding, head in self._heads.items():
                evidence |= answerers[finding].evidence(head.logits(emb_ND))
        for finding, session in self._networks.items():
            evidence |= answerers[finding].evidence(_one_by_one(session, "logit", scan_N1SS))
        return evidence

    def _embeddings(self, scan_N1SS: np.ndarray) -> np.ndarray:
        if self._embedder is None:
            return self._model.embeddings(scan_N1SS)[0]
        emb_ND = _one_by_one(self._embedder, "emb", scan_N1SS)
        return np.asarray(np.nan_to_num(emb_ND, posinf=0.0, neginf=0.0))


def _one_by_one(session: Any, output: str, scan_N1SS: np.ndarray) -> np.ndarray:
    return np.concatenate([session.run([output], {"scan": scan[None]})[0] for scan in scan_N1SS])


def shows_head(path: Path) -> bool:
    """Whether the weights of a network's ONNX file say which of them are its head's."""
    import onnx

    return any(HEAD_ARRAY in tensor.name for tensor in onnx.load(path).graph.initializer)


def _session(path: Path, rng: np.random.Generator, named: str = "") -> Any:
    """A network's ONNX file at work, with those of its weights shuffled whose names hold a text."""
    import onnx
    from onnx import numpy_helper

    network = onnx.load(path)
    for tensor in network.graph.initializer:
        values = numpy_helper.to_array(tensor)
        is_large = values.dtype == np.float32 and values.ndim > 1 and values.size >= _FEWEST
        if is_large and named in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(_shuffled(values, rng), tensor.name))
    return onnx_file.session(network.SerializeToString(), 1)


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same numbers elsewhere in the array."""
    return np.asarray(rng.permutation(values.ravel()).reshape(values.shape))
