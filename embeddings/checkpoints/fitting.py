"""Weights into a network: every tensor of the network has one of the file, and the file has none that it lacks.

Heads may be left over, and buffers that a network computes anew may be missing. Whatever else does not fit is refused
in one error: a network that is partly random gives vectors too, only worse ones.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.checkpoints import key_maps, looks, parts, weight_files
from embeddings.checkpoints.key_maps import State
from pipeline.contracts.errors import InputError

log = logging.getLogger(__name__)

Create = Callable[..., Any]  # options of the architecture -> the network without its head
WHERE = weight_files.WHERE
# What a network for embeddings has no place for: classifiers, projections, decoders, masks, tables made anew.
_HEADS = re.compile(
    r"^(?:head|heads|fc|classifier|classif|mlp_head|proj_head|projection_head|projector|predictor|omni_heads|head_dist"
    r"|dino_head|ibot_head|lm_head|logit_scale|logit_bias|pre_logits|pooler|decoder(?:_\w+)?|mask_token|op_threshs)(?:$|\.)"
    r"|relative_position_index|relative_coords_table|attn_mask|rope|rotary|periods|num_batches_tracked|position_ids"
)
_COMPUTED = re.compile(r"num_batches_tracked|relative_position_index|relative_coords_table|attn_mask|rope|periods")


@dataclass(frozen=True)
class Source:
    """Whose weights are fitted, for the errors.

    Attributes:
        name: As in `backbone.name`.
        path: Of the file.
    """

    name: str
    path: Path


def load(create: Create, source: Source) -> Any:
    """The network with the weights of a file, at the size of input that the file was made for.

    Args:
        create: Builds the network; options of the file's own (channels, side of a patch, size) are passed to it.
        source: Which file, for which network.

    Raises:
        InputError: the file cannot be read, or holds another network.
    """
    tensors = weight_files.read(source.path)
    body = create()
    part = parts.find(tensors, body)
    options = _options(part.state, body, source)
    if options:
        log.info("%s is built as the file has it: %s", source.name, options)
        try:
            body = create(**options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise _foreign(source, tensors, f"it cannot be built with {options}") from error
        part = parts.find(tensors, body)
    own = dict(body.state_dict())
    mistakes = _mistakes(part.state, own)
    if mistakes:
        raise _foreign(source, tensors, mistakes)
    body.load_state_dict({key: part.state.get(key, tensor) for key, tensor in own.items()})
    return body


def first_weight(body: Any) -> tuple[str, Any]:
    """Name and weights (D, C, H, W) of the layer that sees the pixels."""
    return next((name, value) for name, value in body.named_parameters() if value.ndim == 4)


def _options(state: State, body: Any, source: Source) -> dict[str, Any]:
    """What the file says of its network where the architecture's default differs."""
    out: dict[str, Any] = {}
    first, weight = first_weight(body)
    theirs = state.get(first)
    if theirs is not None and theirs.ndim == 4 and len(theirs) == len(weight) and theirs.shape[1] != weight.shape[1]:
        if theirs.shape[1] not in (1, 3):
            raise InputError(
                f"this network takes {theirs.shape[1]} channels; scans are grey, as one channel or repeated to 3",
                value=source.path.name,
                where=WHERE,
                fix="use the weights of a network of 1 or 3 channels",
            )
        out["in_chans"] = theirs.shape[1]
    own = body.state_dict()
    if any(key.startswith("fc_norm.") for key in own.keys() - state.keys()) and "norm.weight" in state:
        out["use_fc_norm" if type(body).__module__ == "timm.models.eva" else "fc_norm"] = False
    elif "fc_norm.weight" in state and "norm.weight" in own.keys() - state.keys():
        out["global_pool"] = "avg"  # trained with its norm behind the mean of the patches
    return out | _grid_options(state, body)


def _grid_options(state: State, body: Any) -> dict[str, Any]:
    """Side of a patch and of the input, of a transformer."""
    out: dict[str, Any] = {}
    for patch_key, table_key in (
        ("patch_embed.proj.weight", "pos_embed"),
        ("conv_proj.weight", "encoder.pos_embedding"),
    ):
        patch, table = state.get(patch_key), state.get(table_key)
        own_patch = dict(body.named_parameters()).get(patch_key)
        if own_patch is None or patch is None or patch.ndim != 4 or patch.shape[2] != patch.shape[3]:
            continue
        if patch.shape[-1] != own_patch.shape[-1]:
            out["patch_size"] = patch.shape[-1]
        if table is None or table.ndim != 3:
            continue
        own_table = body.state_dict().get(table_key)
        folded = getattr(body, "no_embed_class", False)
        side = key_maps.side_of(table.shape[1] - (0 if folded else getattr(body, "num_prefix_tokens", 1)))
        if side is not None and (out or own_table is None or own_table.shape != table.shape):
            out["img_size"] = side * patch.shape[-1]
        if side is not None and "patch_size" in out and getattr(getattr(body, "rope", None), "ref_feat_shape", None):
            out["ref_feat_shape"] = (side, side)  # the grid that rotary positions are counted in
    return out


def _mistakes(state: State, own: State) -> str:
    """What is missing, has another shape or is left over, in one line; empty: all fits."""
    missing = [key for key in own if key not in state and not _COMPUTED.search(key)]
    reshaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    extra = [key for key in state if key not in own and not _HEADS.search(key)]
    num = len([key for key in own if not _COMPUTED.search(key)])
    mistakes = []
    if missing:
        mistakes.append(f"{len(missing)} of its {num} tensors are missing, first {', '.join(missing[:3])}")
    if reshaped:
        key = reshaped[0]
        shapes = f"{key} {tuple(state[key].shape)}, the network has {tuple(own[key].shape)}"
        mistakes.append(f"{len(reshaped)} have another shape, first {shapes}")
    if extra:
        mistakes.append(f"{len(extra)} are left over, first {', '.join(extra[:3])}")
    return "; ".join(mistakes)


def _foreign(source: Source, tensors: State, mistakes: str) -> InputError:
    seen = looks.look(tensors)
    like = f". The file looks like {seen.words}" if seen.words else ""
    others = [name for name in seen.names if name != source.name]
    fix = f"try backbone.name={' or '.join(others)}, or " if others else ""
    return InputError(
        f"the weights belong to another network than {source.name} ({mistakes}){like}",
        value=source.path.name,
        where=WHERE,
        fix=f"{fix}name the backbone the file was trained with in backbone.name",
    )
