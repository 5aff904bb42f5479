"""Transformers of the published kinds, small enough for a test, and their weights under the names of their publishers.

The names are written here by hand, from what `transformers`, dinov2, dinov3 and others save; the code under test has
its own list, the other way round.
"""

import re
import warnings

import torch
from timm.layers import SwiGLUPacked
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def _entry(kind, size_px, defaults):
    def make(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **given):
        net = kind(**({"img_size": size_px, "num_classes": 0} | defaults | given))
        net.default_cfg = {"input_size": (3, size_px, size_px), "mean": MEAN, "std": STD}
        return net

    return make


def _register(name, kind, size_px, **defaults):
    entry = _entry(kind, size_px, defaults if kind is SwinTransformer else SMALL | defaults)
    entry.__name__ = entry.__qualname__ = name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a module that is imported twice registers its networks twice
        register_model(entry)


_register("tiny_vit", VisionTransformer, 48, patch_size=16)
_register("tiny_vit_avg", VisionTransformer, 48, patch_size=16, global_pool="avg")
_register("tiny_dinov2", VisionTransformer, 56, patch_size=14, init_values=1e-5)
_register("tiny_dinov2_reg4", VisionTransformer, 56, patch_size=14, init_values=1e-5, reg_tokens=4, no_embed_class=True)
_register(
    "tiny_dinov2_swiglu", VisionTransformer, 56, patch_size=14, init_values=1e-5, mlp_layer=SwiGLUPacked, mlp_ratio=4.0
)
_register("tiny_siglip", VisionTransformer, 48, patch_size=16, class_token=False, global_pool="map")
_DINOV3 = {
    "patch_size": 16,
    "dynamic_img_size": True,
    "init_values": 1.0,
    "rope_type": "dinov3",
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "norm_layer": torch.nn.LayerNorm,
}
_register("tiny_dinov3", Eva, 48, qkv_bias=False, **_DINOV3)
_register("tiny_dinov3_qkvb", Eva, 48, qkv_bias=True, **_DINOV3)
_register("tiny_dinov3_plus", Eva, 48, qkv_bias=False, swiglu_mlp=True, swiglu_align_to=8, **_DINOV3)
_EVA02 = {"swiglu_mlp": True, "use_rot_pos_emb": True, "mlp_ratio": 4 * 2 / 3}
_register("tiny_eva02", Eva, 56, patch_size=14, ref_feat_shape=(4, 4), **_EVA02)
_register(
    "tiny_eva02_base",
    Eva,
    56,
    patch_size=14,
    ref_feat_shape=(4, 4),
    qkv_fused=False,
    scale_mlp=True,
    scale_attn_inner=True,
    **_EVA02,
)
_register("tiny_eva_x", Eva, 48, patch_size=16, ref_feat_shape=(3, 3), **_EVA02)
_register("tiny_swin", SwinTransformer, 64, patch_size=4, window_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 4))


def drawn(net, seed=0):
    """The network with every parameter and running statistic drawn: zeros and ones would hide a swap."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point() and "rope" not in name:
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if name.endswith(("running_var", "gamma")) else 0.4 * noise - 0.2)
    return net.eval()


def _apart(state, q, k, v):
    """Query, key and value in tensors of their own; names take the block's number and what follows."""
    out = {}
    for key, tensor in state.items():
        found = re.match(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", key)
        if found is None:
            out[key] = tensor
            continue
        for name, part in zip((q, k, v), tensor.chunk(3), strict=True):
            out[name.format(found[1], found[2])] = part.clone()
    return out


def _renamed(state, *pairs):
    out = {}
    for key, tensor in state.items():
        name = key
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        out[name] = tensor
    return out


def as_hf_dinov2(state, registers=False):
    """`Dinov2Model` and `Dinov2WithRegistersModel`: RAD-DINO is one."""
    names = [f"encoder.layer.{{}}.attention.attention.{part}.{{}}" for part in ("query", "key", "value")]
    out = _renamed(
        _apart(state, *names),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.ls([12])\.gamma", r".layer_scale\1.lambda1"),
        (r"^norm\.", "layernorm."),
    )
    if registers:  # the class token has a position of its own there
        position = torch.full((1, 1, out["embeddings.cls_token"].shape[2]), 0.125)
        out["embeddings.cls_token"] = out["embeddings.cls_token"] - position
        out["embeddings.position_embeddings"] = torch.cat([position, out["embeddings.position_embeddings"]], 1)
    return out | {"embeddings.mask_token": torch.zeros(1, 24)}


def as_hf_swiglu(state):
    """The feed-forward part of `Dinov2Model` giant."""
    return _renamed(as_hf_dinov2(state), (r"mlp\.fc1", "mlp.weights_in"), (r"mlp\.fc2", "mlp.weights_out"))


def as_hf_vit(state):
    """`ViTModel`, with its pooler."""
    names = [f"encoder.layer.{{}}.attention.attention.{part}.{{}}" for part in ("query", "key", "value")]
    out = _renamed(
        _apart(state, *names),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"^norm\.", "layernorm."),
    )
    return out | {"pooler.dense.weight": torch.zeros(24, 24), "pooler.dense.bias": torch.zeros(24)}


def as_hf_dinov3(state):
    """`DINOv3ViTModel`: the key has no bias, and there is no table of positions."""
    fused = {}
    for key, tensor in state.items():
        if key.endswith("attn.q_bias"):
            fused[re.sub(r"^blocks\.(\d+)\.attn\.q_bias", r"layer.\1.attention.q_proj.bias", key)] = tensor
        elif key.endswith("attn.v_bias"):
            fused[re.sub(r"^blocks\.(\d+)\.attn\.v_bias", r"layer.\1.attention.v_proj.bias", key)] = tensor
        else:
            fused[key] = tensor
    names = [f"layer.{{}}.attention.{part}_proj.{{}}" for part in "qkv"]
    gated = any("fc1_g" in key for key in state)
    return _renamed(
        _apart(fused, *names),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"^blocks\.(\d+)\.", r"layer.\1."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.gamma_([12])$", r".layer_scale\1.lambda1"),
        (r"\.mlp\.fc1_g\.", ".mlp.gate_proj."),
        (r"\.mlp\.fc1_x\.", ".mlp.up_proj."),
        *([] if gated else [(r"\.mlp\.fc1\.", ".mlp.up_proj.")]),
        (r"\.mlp\.fc2\.", ".mlp.down_proj."),
    ) | {"embeddings.mask_token": torch.zeros(1, 1, 24)}


def as_dinov3(state):
    """As facebookresearch publishes DINOv3: a fused bias whose key part is masked."""
    out = {}
    for key, tensor in state.items():
        block = re.match(r"(blocks\.\d+\.attn\.)q_bias", key)
        if block is not None:
            out[f"{block[1]}qkv.bias"] = torch.cat([tensor, torch.zeros(24), state[f"{block[1]}v_bias"]])
            out[f"{block[1]}qkv.bias_mask"] = torch.ones(72)
        elif not key.endswith("attn.v_bias"):
            out[key] = tensor
    renamed = _renamed(
        out,
        (r"^reg_token$", "storage_tokens"),
        (r"\.gamma_([12])$", r".ls\1.gamma"),
        (r"\.fc1_g\.", ".w1."),
        (r"\.fc1_x\.", ".w2."),
        *([(r"\.mlp\.fc2\.", ".mlp.w3.")] if any("fc1_g" in key for key in state) else []),
    )
    return renamed | {"rope_embed.periods": torch.ones(3), "mask_token": torch.zeros(1, 24)}


def as_hf_siglip(state):
    """The picture's half of `SiglipModel`, text half and all."""
    names = [f"encoder.layers.{{}}.self_attn.{part}_proj.{{}}" for part in "qkv"]
    out = _renamed(
        _apart(state, *names),
        (r"^patch_embed\.proj", "embeddings.patch_embedding"),
        (r"^pos_embed$", "embeddings.position_embedding.weight"),
        (r"^blocks\.(\d+)\.", r"encoder.layers.\1."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"^norm\.", "post_layernorm."),
        (r"^attn_pool\.latent$", "head.probe"),
        (r"^attn_pool\.proj\.", "head.attention.out_proj."),
        (r"^attn_pool\.norm\.", "head.layernorm."),
        (r"^attn_pool\.mlp\.", "head.mlp."),
    )
    out["embeddings.position_embedding.weight"] = out["embeddings.position_embedding.weight"][0]
    for kind in ("weight", "bias"):
        pair = [out.pop(f"attn_pool.{part}.{kind}") for part in ("q", "kv")]
        out[f"head.attention.in_proj_{kind}"] = torch.cat(pair)
    text = {"text_model.encoder.layers.0.layer_norm1.weight": torch.ones(24), "logit_scale": torch.ones(1)}
    return {f"vision_model.{key}": tensor for key, tensor in out.items()} | text


def as_eva02(state):
    """As baaivision publishes EVA-02, and EVA-X after it: the gate packed in the small ones, apart in the larger."""
    gated = any("fc1_g" in key for key in state)
    pairs = ((r"\.fc1_g\.", ".w1."), (r"\.fc1_x\.", ".w2.")) if gated else ((r"mlp\.fc1\.", "mlp.w12."),)
    biases = ((r"\.q_proj\.bias", ".q_bias"), (r"\.v_proj\.bias", ".v_bias"))
    norms = ((r"mlp\.norm\.", "mlp.ffn_ln."), (r"attn\.norm\.", "attn.inner_attn_ln."))
    return _renamed(state, *pairs, (r"mlp\.fc2\.", "mlp.w3."), *biases, *norms)


def under(prefix, state):
    """The same tensors under a prefix."""
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}
