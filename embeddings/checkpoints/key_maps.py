"""The names that published weights have -> the names that timm and torchvision give the same tensors.

`canonical` needs no network: it writes vision transformers in timm's names, with query, key and value apart.
`suited` then fits what is left to one network: query, key and value fused, layer scale under the name it has there,
the class token's position folded into the token where the network keeps positions for patches alone.

Sources of the names: `transformers` (models dinov2, dinov2_with_registers, dinov3_vit, vit, siglip, clip), the
repositories dinov2 and dinov3 of facebookresearch, torchvision's own rule for its DenseNets of before 2017.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# T positions, D width of a transformer

State = dict[str, Any]
PLAIN = "plain"  # the layout whose names are the network's own
_LAYER = r"^(?:model\.)?(?:encoder\.)?layers?\.(\d+)\."
_HUGGING_FACE = (
    (r"^embeddings\.(?:cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings?(?:\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?(?:\.proj(?:ection)?)?\.(weight|bias)$", r"patch_embed.proj.\1"),
    (_LAYER, r"blocks.\1."),
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda found: f".attn.{found[1][0]}_proj."),
    (r"\.(?:attention|self_attn)\.([qkv])_proj\.", r".attn.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(?:attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^(?:layernorm|post_layernorm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
)
_RESNET_IN_ORDER = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def canonical(state: State) -> tuple[State, str]:
    """Tensors under timm's or torchvision's names, and what the layout is called; unknown ones stay as they are."""
    for layout, marker, convert in _LAYOUTS:
        if any(re.search(marker, key) for key in state):
            return convert(state), layout
    return state, PLAIN


def _hugging_face(state: State) -> State:
    out: State = {}
    up = "mlp.fc1_x." if any(".mlp.gate_proj." in key for key in state) else "mlp.fc1."
    for key, tensor in state.items():
        name = key
        for pattern, new in _HUGGING_FACE:
            name = re.sub(pattern, new, name)
        name = name.replace("mlp.gate_proj.", "mlp.fc1_g.").replace("mlp.up_proj.", up)
        if name.startswith("head.attention.in_proj_"):  # SigLIP's pooling: query, key and value in one
            kind, width = name.rpartition("_")[2], tensor.shape[0] // 3
            out[f"attn_pool.q.{kind}"], out[f"attn_pool.kv.{kind}"] = tensor[:width], tensor[width:]
        elif name == "pos_embed" and tensor.ndim == 2:
            out[name] = tensor[None]
        elif name == "cls_token":
            out[name] = tensor.reshape(1, 1, -1)
        else:
            out[name] = tensor
    return out


def _dinov3(state: State) -> State:
    """As facebookresearch publishes it; rotary tables and the mask of the absent key bias are no weights."""
    out: State = {}
    for key, tensor in state.items():
        if not (key.startswith(("rope_embed.", "local_cls_norm.")) or key.endswith(".bias_mask")):
            name = key.replace("storage_tokens", "reg_token").replace("mlp.w1.", "mlp.fc1_g.")
            out[name.replace("mlp.w2.", "mlp.fc1_x.").replace("mlp.w3.", "mlp.fc2.")] = tensor
    return out


def _chunked(state: State) -> State:
    """DINOv2 trains its blocks in chunks: `blocks.1.6.` is block 6."""
    return _dinov2({re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key): value for key, value in state.items()})


def _dinov2(state: State) -> State:
    swapped = (("register_tokens", "reg_token"), ("mlp.w12.", "mlp.fc1."), ("mlp.w3.", "mlp.fc2."))
    out: State = {}
    for key, tensor in state.items():
        name = key
        for old, new in swapped:
            name = name.replace(old, new)
        out[name] = tensor
    return out


def _old_densenet(state: State) -> State:
    """`denselayer1.norm.1.weight` of before torchvision 0.2 is `denselayer1.norm1.weight`."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value for key, value in state.items()}


def _resnet_in_order(state: State) -> State:
    """A ResNet's children in an `nn.Sequential`, numbered."""
    return {
        ".".join([_RESNET_IN_ORDER[first], rest])
        if (first := key.partition(".")[0]) in _RESNET_IN_ORDER
        else key: value
        for key, value in state.items()
        for rest in (key.partition(".")[2],)
    }


_LAYOUTS: tuple[tuple[str, str, Callable[[State], State]], ...] = (
    ("Hugging Face", r"^embeddings\.patch_embeddings?\.", _hugging_face),
    ("DINOv3", r"^storage_tokens$", _dinov3),
    ("DINOv2 in chunks", r"^blocks\.\d+\.\d+\.attn\.", _chunked),
    ("DINOv2", r"^register_tokens$|^blocks\.\d+\.mlp\.w12\.", _dinov2),
    ("DenseNet of 2017", r"denselayer\d+\.(?:norm|conv)\.[12]\.", _old_densenet),
    ("ResNet in order", r"^4\.0\.conv1\.weight$", _resnet_in_order),
)


def suited(state: State, body: "nn.Module") -> State:
    """Canonical tensors under the names that this network has for them."""
    own = body.state_dict()
    out = dict(state)
    for prefix in sorted({match[1] for key in state if (match := re.match(r"(blocks\.\d+\.attn\.)", key))}):
        _fuse(out, prefix, own)
    for key in [key for key in out if re.search(r"\.ls[12]\.gamma$", key)]:
        name = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key)
        if name in own:
            out[name] = out.pop(key)
    positions = out.get("pos_embed")
    for_patches_alone = "cls_token" in out and getattr(body, "no_embed_class", False)
    if for_patches_alone and positions is not None and _side(positions.shape[1]) is None:
        out["cls_token"] = out["cls_token"] + positions[:, :1]
        out["pos_embed"] = positions[:, 1:]
    return out


def _fuse(out: State, prefix: str, own: State) -> None:
    """Query, key and value of one block, as the network keeps them. An absent bias is a bias of zeros."""
    import torch

    if f"{prefix}qkv.weight" not in own:
        return
    weights = [out.pop(f"{prefix}{name}_proj.weight", None) for name in "qkv"]
    biases = [out.pop(f"{prefix}{name}_proj.bias", None) for name in "qkv"]
    if all(weight is not None for weight in weights):
        out[f"{prefix}qkv.weight"] = torch.cat(weights)
        if any(bias is not None for bias in biases):
            zeros = torch.zeros(len(weights[0]), dtype=weights[0].dtype)
            out[f"{prefix}qkv.bias"] = torch.cat([zeros if bias is None else bias for bias in biases])
    bias = out.get(f"{prefix}qkv.bias")
    if bias is None or f"{prefix}qkv.bias" in own:
        return
    query, key, value = bias.chunk(3)
    if f"{prefix}q_bias" in own and f"{prefix}v_bias" in own and not bool(key.any()):
        out[f"{prefix}q_bias"], out[f"{prefix}v_bias"] = query, value
        del out[f"{prefix}qkv.bias"]
    elif not bool(bias.any()):
        del out[f"{prefix}qkv.bias"]


def side_of(num_positions: int) -> int | None:
    """Patches along a side of a square grid of so many; None where they make no square."""
    return _side(num_positions)


def _side(num: int) -> int | None:
    side = round(max(num, 0) ** 0.5)
    return side if side > 0 and side * side == num else None
