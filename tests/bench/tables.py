"""Result tables as Markdown files, with the command and the versions that made them."""

import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from pipeline.runtime import run_dir

RESULTS = Path(__file__).parent / "results"


def write(
    name: str, title: str, command: str, header: Sequence[str], rows: Sequence[Sequence[Any]], notes: str
) -> None:
    """Write `results/NAME.md`."""
    env = run_dir.environment()
    versions = ", ".join(
        f"{key} {env[key]}" for key in ("python", "torch", "ray", "onnxruntime", "faiss_gpu") if key in env
    )
    lines = [
        f"# {title}",
        "",
        f"`{command}`",
        "",
        "| " + " | ".join(header) + " |",
        "| " + " | ".join("---" for _ in header) + " |",
    ]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    lines += ["", notes, "", f"{dt.date.today().isoformat()}; {env['cpus']} CPUs, no GPU; {versions}.", ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines), "utf-8")


def mean_ci(values: Sequence[float], digits: int = 3) -> str:
    """Mean and 95 % t-interval over seeds."""
    num = len(values)
    mean = sum(values) / num
    if num < 2:
        return f"{mean:.{digits}f}"
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (num - 1))
    half = float(stats.t.ppf(0.975, num - 1)) * sd / math.sqrt(num)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
