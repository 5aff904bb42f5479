"""What a file of weights looks like, from the shapes in it: for the error that says which network to name."""

import re
from dataclasses import dataclass

from embeddings.checkpoints import key_maps, parts
from embeddings.checkpoints.key_maps import State

# Width of the tokens -> the name that timm gives it.
_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1152: "so400m", 1280: "huge", 1536: "giant"}
_SWIN_SIZES = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_DENSENETS: dict[tuple[int, ...], str] = {
    (6, 12, 24, 16): "densenet121",
    (6, 12, 36, 24): "densenet161",
    (6, 12, 32, 32): "densenet169",
    (6, 12, 48, 32): "densenet201",
}


@dataclass(frozen=True)
class Look:
    """A guess.

    Attributes:
        words: What the file looks like; empty: nothing known.
        names: Backbones to try, as for `backbone.name`.
    """

    words: str = ""
    names: tuple[str, ...] = ()


def look(tensors: State) -> Look:
    """Guess the architecture of a file's tensors from names and shapes."""
    import timm

    state = parts.canonical(tensors)
    for guess in (_transformer, _swin, _densenet, _resnet):
        guessed = guess(state)
        if guessed is not None:
            known = [name for name in guessed.names if name.startswith("torchvision:") or timm.is_model(name[5:])]
            return Look(guessed.words, tuple(known))
    return Look()


def _transformer(state: State) -> Look | None:
    patch = state.get("patch_embed.proj.weight")
    depth = _count(state, r"blocks\.(\d+)\.")
    if patch is None or patch.ndim != 4 or not depth:
        return None
    width, size_px = patch.shape[0], patch.shape[-1]
    positions = state.get("pos_embed")
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    words = f"a vision transformer of {depth} blocks, {width} wide, patches of {size_px} pixels"
    if positions is not None and positions.ndim == 3:
        prefix = 1 if "cls_token" in state else 0
        side = key_maps.side_of(positions.shape[1] - prefix) or key_maps.side_of(positions.shape[1])
        words += f", {positions.shape[1]} positions" + (f" (scans of {side * size_px} pixels)" if side else "")
    if registers:
        words += f", {registers} registers"
    return Look(
        words, tuple(f"timm:{name}" for name in _vit_names(state, _VIT_SIZES.get(width, "?"), size_px, registers))
    )


def _vit_names(state: State, size: str, patch_px: int, registers: int) -> list[str]:
    gated = any(re.search(r"mlp\.(?:fc1_g|w1)\.", key) for key in state) or _is_packed(state)
    if "attn_pool.latent" in state:
        return [f"vit_{size}_patch{patch_px}_siglip_{px}" for px in (224, 378, 384)][:2]
    if "pos_embed" not in state and registers:
        biased = any(bool(tensor.any()) for key, tensor in state.items() if re.search(r"q_proj\.bias|qkv\.bias", key))
        return [f"vit_{size}{'_plus' if gated else ''}_patch16_dinov3{'_qkvb' if biased else ''}"]
    if any(re.search(r"\.(?:ls1\.gamma|gamma_1)$", key) for key in state):
        return [f"vit_{size}_patch14{f'_reg{registers}' if registers else ''}_dinov2"]
    if gated:
        return [f"eva02_{size}_patch14_224"]
    return [f"vit_{size}_patch{patch_px}_224"]


def _is_packed(state: State) -> bool:
    """Whether a gate and what it lets through are one matrix."""
    first, second = (state.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    return first is not None and second is not None and first.shape[0] == 2 * second.shape[1]


def _swin(state: State) -> Look | None:
    patch = state.get("patch_embed.proj.weight")
    depths = [_count(state, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4)]
    table = state.get("layers.0.blocks.0.attn.relative_position_bias_table")
    if patch is None or not all(depths) or table is None:
        return None
    window, width = (round(table.shape[0] ** 0.5) + 1) // 2, patch.shape[0]
    words = f"a Swin transformer of {depths} blocks, {width} wide, windows of {window} patches"
    size, side_px = _SWIN_SIZES.get((width, depths[2]), "?"), 384 if window == 12 else 224
    return Look(words, (f"timm:swin_{size}_patch{patch.shape[-1]}_window{window}_{side_px}",))


def _densenet(state: State) -> Look | None:
    depths = tuple(_count(state, rf"features\.denseblock{block}\.denselayer(\d+)\.") for block in range(1, 5))
    if not all(depths):
        return None
    name = _DENSENETS.get(depths)
    return Look(f"a DenseNet of {list(depths)} layers", (f"torchvision:{name}",) if name else ())


def _resnet(state: State) -> Look | None:
    depths = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    if not all(depths):
        return None
    name = _RESNETS.get((depths, "layer1.0.conv3.weight" in state))
    return Look(f"a ResNet of {list(depths)} blocks", (f"torchvision:{name}", f"timm:{name}") if name else ())


def _count(state: State, pattern: str) -> int:
    return len({match[1] for key in state if (match := re.match(pattern, key))})
