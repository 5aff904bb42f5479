"""`cxr-ssl pretrain`: a backbone learns from a pool, without a run."""

import json
import logging
from dataclasses import replace
from typing import Any

from embeddings.backbones import CARD
from pipeline.commands import request as commands_request
from pipeline.commands import run as commands_run
from pipeline.commands.request import Request
from pipeline.runtime import run_files

log = logging.getLogger(__name__)

DEFAULT_EPOCHS = 20  # of the command, where the configuration has none


def pretrain_pool(request: Request) -> dict[str, Any]:
    """What `cxr-ssl pretrain` does; returns {"out","state","card","stages"}."""
    out, config = commands_request.prepared(request)
    if config.pretrain.epochs == 0:
        log.info("pretrain.epochs is not set: %d epochs", DEFAULT_EPOCHS)
        request = replace(request, overrides=request.overrides | {"pretrain.epochs": DEFAULT_EPOCHS})
    result = commands_run.execute(replace(request, stages=("manifest", "duplicates", "splits", "pretrain")))
    backbone = out / run_files.PRETRAINED
    card = json.loads((backbone / CARD).read_text("utf-8"))
    return {key: result[key] for key in ("out", "state", "stages")} | {"backbone": str(backbone), "card": card}
