"""The classifier of a round as files: safetensors, ONNX, and a card in JSON.

A head on a frozen backbone takes embeddings; an adapted network takes scans. `card.json` says which (`input`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_bytes, write_text
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Trained
from pipeline.measures.calibrate import at_prevalence
from pipeline.runtime import run_files
from pipeline.runtime.engine import Engine
from pipeline.vectors import principal_components
from pipeline.vectors.row_blocks import map_blocks

# N scans, D dimensions of the embedding, P features, C findings

FORMAT = 1  # of what `Classifier.save` writes; raise it whenever the files mean something else
_READ = ("findings", "temperature", "prevalence", "operating_weights", "learning_prior")  # of the card


@dataclass(frozen=True)
class Classifier:
    """From features or scans to calibrated probabilities and a class.

    Attributes:
        model: A fitted head, a network, or the ONNX file of a network that was read from disk.
        findings: C classes.
        temperature: Of the logits.
        prevalence_C: The pool's class shares the probabilities are for.
        weights_C: Operating point: the class is the argmax of probability over weight.
        learning_prior_C: Class shares it learned at, see `calibrate.learning_prior`.
        mean_D, basis_DP: From embeddings to features, of a head read from disk.
    """

    model: Head | Trained | Path
    findings: tuple[str, ...]
    temperature: float
    prevalence_C: np.ndarray
    weights_C: np.ndarray
    learning_prior_C: np.ndarray
    mean_D: np.ndarray | None = None
    basis_DP: np.ndarray | None = None

    @property
    def head(self) -> Head:
        """The head of a classifier of embeddings."""
        assert isinstance(self.model, Head), "a network has no head apart from its body"
        return self.model

    def logits(self, emb_ND: np.ndarray, rows_M: np.ndarray | None = None, engine: Engine | None = None) -> np.ndarray:
        """Logits (M, C) of embeddings that are not the run's own, block by block; only for a head that was loaded.

        Args:
            emb_ND: Embeddings; may be memory-mapped.
            rows_M: The rows wanted, in the order wanted; None: all.
            engine: Where those of a large pool are worked out; None: here.
        """
        assert self.basis_DP is not None
        blocks = map_blocks(engine, self._logits_of_block, emb_ND, self.basis_DP.size, rows_M)
        return np.concatenate([logit_BC for _, logit_BC in sorted(blocks, key=lambda block: block[0].start)])

    def _logits_of_block(self, emb_BD: np.ndarray) -> np.ndarray:
        assert self.mean_D is not None
        assert self.basis_DP is not None
        emb_BD = np.asarray(emb_BD, dtype=np.float32)
        return self.head.logits(principal_components.project(emb_BD, self.mean_D, self.basis_DP))

    def probabilities(self, logit_NC: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, C)."""
        return at_prevalence(logit_NC, self.temperature, self.prevalence_C)

    def classes(self, prob_NC: np.ndarray) -> np.ndarray:
        """Class index at the operating point (N,)."""
        return np.asarray((prob_NC / self.weights_C).argmax(1))

    def save(self, folder: Path, card: dict[str, Any], basis: tuple[np.ndarray, np.ndarray]) -> None:
        """Write `model.safetensors`, `model.onnx` and `card.json`.

        Args:
            folder: Where to.
            card: Fields of `card.json` besides the model's own numbers.
            basis: Mean (D,) and basis (D, P) of the features, see `principal_components.load_basis`.
        """
        from safetensors.numpy import save

        if isinstance(self.model, Trained):
            arrays = network_design.take(network_design.whole(self.model))
            network_design.export(
                self.model, folder / run_files.MODEL_ONNX, self.temperature, self.prevalence_C, self.findings
            )
        else:
            arrays = self.head.arrays | {"mean_D": basis[0], "basis_DP": basis[1]}
            write_bytes(folder / run_files.MODEL_ONNX, self.to_onnx(*basis))
        write_bytes(folder / run_files.MODEL_WEIGHTS, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        own = {
            "format": FORMAT,
            "version": __version__,
            "input": "scan" if isinstance(self.model, Trained) else "embedding",
            "findings": self.findings,
            "temperature": self.temperature,
            "prevalence": self.prevalence_C.tolist(),
            "operating_weights": self.weights_C.tolist(),
            "learning_prior": self.learning_prior_C.tolist(),
        }
        if isinstance(self.model, Trained):
            design, frozen = self.model.design, self.model.frozen
            own["network"] = {"num_early": design.num_early, "size_px": design.size_px, "head": _shapes(design.head)}
            if frozen is not None:
                own["network"]["frozen"] = {"features": frozen.features, "head": _shapes(frozen.head)}
        write_text(folder / run_files.CARD, json.dumps(card | own, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read the classifier that `save` wrote into a folder.

        Raises:
            InputError: see `refuse_other_format`.
        """
        from safetensors.numpy import load_file

        card = refuse_other_format(folder)
        rest = (
            tuple(card["findings"]),
            card["temperature"],
            np.array(card["prevalence"]),
            np.array(card["operating_weights"]),
            np.array(card["learning_prior"]),
        )
        if card.get("input") == "scan":
            return cls(folder / run_files.MODEL_ONNX, *rest)
        layers = load_file(folder / run_files.MODEL_WEIGHTS)
        head = Head({name: value for name, value in layers.items() if name.startswith(("weight", "bias"))})
        return cls(head, *rest, layers["mean_D"], layers["basis_DP"])

    def to_onnx(self, mean_D: np.ndarray, basis_DP: np.ndarray) -> bytes:
        """ONNX of embedding (N, D) -> calibrated probability (N, C)."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        a = self.head.arrays
        shift_C = np.log(np.maximum(self.prevalence_C, 1e-12)).astype(np.float32)
        constants = {
            "mean": mean_D,
            "basis": basis_DP,
            "inverse_temperature": np.float32(1 / self.temperature),
            "shift": shift_C,
            **{k: v for k, v in a.items() if k.startswith(("weight", "bias"))},
        }
        nodes = [
            helper.make_node("Sub", ["emb", "mean"], ["centred"]),
            helper.make_node("MatMul", ["centred", "basis"], ["features"]),
            helper.make_node("Gemm", ["features", "weight0", "bias0"], ["out0"], transB=1),
        ]
        last = "out0"
        if "weight1" in a:
            nodes.append(helper.make_node("Relu", ["out0"], ["hidden"]))
            nodes.append(helper.make_node("Gemm", ["hidden", "weight1", "bias1"], ["out1"], transB=1))
            last = "out1"
        nodes += [
            helper.make_node("Mul", [last, "inverse_temperature"], ["cooled"]),
            helper.make_node("Add", ["cooled", "shift"], ["shifted"]),
            helper.make_node("Softmax", ["shifted"], ["probability"], axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "cxr-ssl head",
            [helper.make_tensor_value_info("emb", TensorProto.FLOAT, ["n", len(mean_D)])],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", len(self.findings)])],
            [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        model.metadata_props.add(key="findings", value=json.dumps(self.findings))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _shapes(head: Head) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in head.arrays.items()}


def refuse_other_format(folder: Path) -> dict[str, Any]:
    """The card of a classifier, unless its files are of another form than this version reads.

    Raises:
        InputError: they are, naming the version that made them.
    """
    path = folder / run_files.CARD
    card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    missing = [name for name in _READ if name not in card]
    if card.get("format", FORMAT) != FORMAT or missing:
        lack = f"lacks {', '.join(missing)}" if missing else f"is of format {card['format']}, not {FORMAT}"
        raise InputError(
            f"the model was made by another version of cxr-ssl ({card.get('version', 'unknown')}; this is "
            f"{__version__}): its card {lack}",
            where=path,
            fix="use the version that made it, or learn again with this one: `cxr-ssl run --out RUN --resume`",
        )
    return card


def preprocessing(config: Config) -> dict[str, Any]:
    """From file to input, in words that another program can follow."""
    return {
        "size_px": config.preprocess.size_px,
        "steps": [
            "decode to one grey channel (colour: ITU-R 601 luminance; alpha dropped; EXIF orientation applied)",
            "apply what the file says of its values (TIFF WhiteIsZero; DICOM rescale, table, window, MONOCHROME1)",
            "divide by white: 255 for 8 bits; for 16 what the file says (PNG sBIT, bits of TIFF and DICOM), else what "
            "the pool has decided: the smallest of its whites that holds the largest value",
            f"squash the whole scan to {config.preprocess.size_px} x {config.preprocess.size_px}, "
            "bilinear with antialiasing",
            "float32, shape (N, 1, S, S); the file itself normalises and repeats the channel",
        ],
    }
