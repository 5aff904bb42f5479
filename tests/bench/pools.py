"""The pools that benches run on, by name."""

from pathlib import Path


def uri(data: Path, name: str) -> str:
    """URI of a pool by its short name."""
    return {
        "kermany": str(data / "kermany" / "manifest.csv"),
        "covid3": str(data / "covid3" / "manifest.csv"),
        "pneumoniamnist": "medmnist:pneumoniamnist",
        "phantom": "phantom:",
    }[name]


OVERRIDES: dict[str, dict[str, object]] = {
    "kermany": {"pool.findings": ["normal", "pneumonia"]},
    "covid3": {"pool.findings": ["no_finding", "pneumonia", "covid"]},
    "pneumoniamnist": {},
    "phantom": {},
}
