"""The backbone that a training leaves: a folder with its weights and a card, which `backbone.name` can be."""

import json
from pathlib import Path
from typing import Any

from embeddings.backbones import CARD, WEIGHTS, Backbone, file_hash
from pipeline.contracts.tables import write_bytes, write_text


def write(folder: Path, network: Any, backbone: Backbone, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the weights, then the card, which makes the folder a backbone; returns the card.

    Args:
        folder: Where to.
        network: What `backbones.build` gave, trained.
        backbone: What it was built from.
        facts: Of the training: method, epochs, data hash, options.
    """
    from safetensors.torch import save

    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.body.state_dict().items()}
    (folder / CARD).unlink(missing_ok=True)  # the card of before must not vouch for other weights
    write_bytes(folder / WEIGHTS, save(state))
    initial = {"hash": backbone.weights_hash, "origin": backbone.origin, "licence": backbone.licence}
    card = {
        "format": 1,
        "architecture": backbone.name,
        "weights_hash": file_hash(folder / WEIGHTS),
        "normalisation": {name: getattr(network, name).flatten().tolist() for name in ("mean", "std")},
        "initial_weights": initial,
        "licence": f"that of the initial weights ({backbone.licence}) and of the scans",
        **facts,
    }
    write_text(folder / CARD, json.dumps(card, indent=1))
    return card
