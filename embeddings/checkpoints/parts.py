"""Which part of a checkpoint is the network: wrappers and prefixes are found, not listed.

A checkpoint may hold a teacher and a student, a projection head, a decoder, a text tower, all under prefixes that a
training framework made up. The part that is wanted is the one with the most names of the network.
"""

import logging
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embeddings.checkpoints import key_maps
from embeddings.checkpoints.key_maps import PLAIN, State

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

MAX_DEPTH = 6  # names before the network's own
# Of two networks that fit alike, the one that its authors use afterwards (DINO, iBOT, I-JEPA, BYOL, MoCo).
BETTER = re.compile(r"(?:^|[._])(?:teacher|ema|target_encoder|base_encoder)[._]")
WORSE = re.compile(r"(?:^|[._])(?:student|momentum\w*|encoder_k|key_encoder)[._]")


@dataclass(frozen=True)
class Part:
    """A part of a checkpoint, under a network's names.

    Attributes:
        prefix: What stands before its names in the file.
        layout: Whose names they were.
        state: Tensors by the network's names; also those the network has no place for.
    """

    prefix: str
    layout: str
    state: State

    def num_named(self, own: State) -> int:
        """Tensors of the network that it has a tensor for."""
        return len(own.keys() & self.state.keys())

    def rank(self, own: State) -> tuple[int, int, int, int]:
        """The larger the better: names, shapes, the authors' choice, the shorter prefix."""
        same = sum(own[key].shape == self.state[key].shape for key in own.keys() & self.state.keys())
        choice = bool(BETTER.search(self.prefix)) - bool(WORSE.search(self.prefix))
        return self.num_named(own), same, choice, -len(self.prefix)


def find(tensors: State, body: "nn.Module") -> Part:
    """The part of a file that is this network, as far as any is."""
    own = dict(body.state_dict())
    made = [part for prefix in prefixes(tensors) for part in _readings(tensors, prefix, body)]
    best = max(made, key=lambda part: part.rank(own))
    if best.num_named(own) < len(own):
        made += [part for prefix in {best.prefix, ""} if (part := _by_library(tensors, prefix, body)) is not None]
        best = max(made, key=lambda part: part.rank(own))
    rivals = sorted({p.prefix for p in made if p.prefix != best.prefix and p.rank(own)[:2] == best.rank(own)[:2]})
    if best.num_named(own) and rivals:
        log.warning("the checkpoint holds this network more than once: %r is taken, not %s", best.prefix, rivals)
    elif best.prefix or best.layout != PLAIN:
        log.info("the checkpoint's network is under %r, in the layout %s", best.prefix, best.layout)
    return best


def canonical(tensors: State) -> State:
    """The largest part that has a known layout, under canonical names: what a file looks like, whatever is wanted."""
    made = [key_maps.canonical(_below(tensors, prefix))[0] for prefix in prefixes(tensors)]
    return max(made, key=lambda state: sum(bool(_ROOTS.match(key)) for key in state))


_ROOTS = re.compile(
    r"cls_token|pos_embed|reg_token|patch_embed\.|blocks\.\d|layers\.\d|layer[1-4]\.\d|conv1\.|features\."
)


def prefixes(tensors: State) -> list[str]:
    """What may stand before the network's own names: words, never numbers."""
    starts = {""}
    for key in tensors:
        words = key.split(".")[:-1][:MAX_DEPTH]
        for depth, word in enumerate(words, 1):
            if word.isdigit():
                break
            starts.add(".".join(words[:depth]) + ".")
    return sorted(starts)


def _readings(tensors: State, prefix: str, body: "nn.Module") -> list[Part]:
    """What is below a prefix: as it is, and in the layout that its names remind of."""
    plain = _below(tensors, prefix)
    state, layout = key_maps.canonical(plain)
    known = [] if layout == PLAIN else [Part(prefix, layout, key_maps.suited(state, body))]
    return [Part(prefix, PLAIN, key_maps.suited(plain, body)), *known]


def _by_library(tensors: State, prefix: str, body: "nn.Module") -> Part | None:
    """As timm itself reads what the network's authors published, where it knows how."""
    convert: Any = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    try:
        return Part(prefix, "that timm reads", dict(convert(_below(tensors, prefix), body)))
    except Exception as error:  # noqa: BLE001 - a foreign file may break it anywhere; that it does not fit is said later
        log.debug("timm cannot convert the part %r: %s", prefix, error)
        return None


def _below(tensors: State, prefix: str) -> State:
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
