"""Views of a scan that are safe for chest X-rays: what a technician and another scanner could have made of it.

A mild affine map (turn, crop, shift, stretch), another exposure (gamma), another window and level, a little noise;
mirrored where that is allowed, never upside down. Everything is drawn from one generator on the CPU, so that the same
seed gives the same views on every device.
"""

import hashlib
from typing import TYPE_CHECKING

from pipeline.contracts.options.vectors import AugmentConfig

if TYPE_CHECKING:
    from torch import Generator, Tensor

# N scans, S side in pixels

NOISY_SHARE = 1 / 3
VERSION = 1  # of the views below; part of the address of what is computed from them


def views(scan_N1SS: "Tensor", options: AugmentConfig, generator: "Generator") -> "Tensor":
    """One random view of each scan.

    Args:
        scan_N1SS: Grey values in [0, 1].
        options: How far a view may go.
        generator: On the CPU.

    Returns:
        (N, 1, S, S) in [0, 1], on the device of the scans.
    """
    import torch
    from torch.nn import functional

    num = len(scan_N1SS)

    def uniform(limit: float) -> "Tensor":
        return (2.0 * torch.rand(num, generator=generator) - 1.0) * limit

    affine_N23 = _affine(num, options, generator)
    to = scan_N1SS.device
    grid = functional.affine_grid(affine_N23.to(to), list(scan_N1SS.shape), align_corners=False)
    out = functional.grid_sample(scan_N1SS, grid, align_corners=False, padding_mode="border")
    gamma, width, level = uniform(options.gamma).exp(), uniform(options.window).exp(), uniform(options.level)
    noise = (torch.rand(num, generator=generator) < NOISY_SHARE) * options.noise
    gamma, width, level, noise = (value.view(-1, 1, 1, 1).to(to) for value in (gamma, width, level, noise))
    out = (out.clamp(0, 1) ** gamma - 0.5) * width + 0.5 + level
    if options.noise > 0.0:
        out = out + noise * torch.randn(out.shape, generator=generator).to(to)
    return out.clamp(0, 1)


def _affine(num: int, options: AugmentConfig, generator: "Generator") -> "Tensor":
    """Maps from view to scan in coordinates -1..1, (N, 2, 3): a crop is a scale below one that stays inside."""
    import torch

    def uniform(low: float, high: float) -> "Tensor":
        return low + (high - low) * torch.rand(num, generator=generator)

    angle = uniform(-1.0, 1.0) * options.rotate_degrees * torch.pi / 180.0
    scale = 1.0 - uniform(0.0, 1.0) * options.crop
    stretch = (uniform(-1.0, 1.0) * options.stretch).exp()
    room = (1.0 - scale).clamp(min=0.0)[:, None] + 2.0 * options.shift
    centre = 2.0 * torch.rand(num, 2, generator=generator) - 1.0
    mirror = torch.ones(num)
    if options.flip:
        mirror = 1.0 - 2.0 * (torch.rand(num, generator=generator) < 0.5).float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    first = torch.stack([mirror * cos * stretch, -sin / stretch, (centre * room)[:, 0]], 1)
    second = torch.stack([mirror * sin * stretch, cos / stretch, (centre * room)[:, 1]], 1)
    return torch.stack([first, second], 1)


def seed_of(sha256: str, view: int, seed: int = 0) -> int:
    """Seed of a view that depends on the scan's content alone: the same on every machine, whatever its neighbours."""
    digest = hashlib.sha256(f"{seed}/{view}/{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
