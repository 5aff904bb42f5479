"""Is the network still telling scans apart? Spread and rank of its embeddings of plain scans."""

from collections.abc import Callable
from typing import Any

import numpy as np

from embeddings.pretrain import pixel_matrix
from embeddings.scan_cache import Rows

# N scans, D dimensions, S side in pixels

Probe = Callable[[np.ndarray], dict[str, float]]
MIN_SPREAD, MIN_RANK = 0.02, 2.0
_BATCH = 64


def look(emb_ND: np.ndarray) -> dict[str, float]:
    """Two signs of collapse.

    Args:
        emb_ND: Embeddings of different scans.

    Returns:
        `spread`: standard deviation of the dimensions of embeddings of length 1, times the root of D: 0 where all
        scans give one vector, 1 where they fill the sphere (Chen & He 2021, arXiv:2011.10566). `rank`: exponential
        of the entropy of the centred embeddings' squared singular values, the directions they use (Roy & Vetterli
        2007).
    """
    length_N1 = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    unit_ND = emb_ND / np.maximum(length_N1, 1e-12)
    spread = float(unit_ND.std(axis=0).mean() * np.sqrt(emb_ND.shape[1]))
    power = np.linalg.svd(unit_ND - unit_ND.mean(axis=0), compute_uv=False) ** 2
    share = power / max(power.sum(), 1e-30)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    return {"spread": round(spread, 4), "rank": round(float(np.exp(entropy)), 2)}


def warning(health: dict[str, float]) -> str | None:
    """What to say of a network that has collapsed, or is about to."""
    if health["spread"] >= MIN_SPREAD and health["rank"] >= MIN_RANK:
        return None
    return (
        f"the embeddings collapse (spread {health['spread']:.3f}, rank {health['rank']:.1f}): all scans look alike to "
        "the network; lower pretrain.lr, or take another pretrain.method"
    )


def embed(backbone: Any, rows: Rows, position_N: np.ndarray, device: Any) -> np.ndarray:
    """Embeddings (N, D) of plain scans, float32; the network is left in eval mode."""
    import torch

    backbone.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(position_N), _BATCH):
            scan = torch.from_numpy(pixel_matrix.take(rows, position_N[start : start + _BATCH])).to(device)
            out.append(backbone(scan.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
    return np.concatenate(out)
