"""Procedural chest radiographs with known truth, for tests, demos and audits without patients.

In: a request in one line. Out: a folder of images and their manifest.
"""

from pipeline.pool.phantoms.film import lung_mask, render
from pipeline.pool.phantoms.plan import plan
from pipeline.pool.phantoms.pool import MANIFEST_NAME, RENDER_VERSION, write_pool
from pipeline.pool.phantoms.scan import Edit, Opacity, Person, PhantomScan, Pose, Tamper
from pipeline.pool.phantoms.spec import DEFAULT_SOURCES, FAULT_EFFECTS, FAULTS, FINDINGS, PhantomSpec, SourceLook

__all__ = [
    "DEFAULT_SOURCES",
    "FAULTS",
    "FAULT_EFFECTS",
    "FINDINGS",
    "MANIFEST_NAME",
    "RENDER_VERSION",
    "Edit",
    "Opacity",
    "Person",
    "PhantomScan",
    "PhantomSpec",
    "Pose",
    "SourceLook",
    "Tamper",
    "lung_mask",
    "plan",
    "render",
    "write_pool",
]
