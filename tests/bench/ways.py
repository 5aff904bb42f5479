"""Ways to learn from few labels, against expert labels alone: `cxr-ssl bench pseudo` on this project's pools."""

import json
from argparse import Namespace
from pathlib import Path

from pipeline.baselines.curves import pseudo_report, report
from pipeline.commands.benches import pseudo
from pipeline.commands.benches.curves import CurvesRequest
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import write_text
from tests.bench import pools, tables

BUDGETS = (20, 50, 100, 200)


def main(data: Path, given: Namespace) -> None:
    """Write `results/ways.md` and `results/ways.json`."""
    folder = cache_folder() / "bench"
    request = CurvesRequest(
        pools=pools.four(data, folder),
        out=folder / "ways",
        budgets=BUDGETS,
        num_seeds=given.seeds,
        overrides={"engine.backend": "serial"},
        quiet=True,
    )
    result = pseudo.pseudo(request)
    gains, *others = pseudo_report.report_of(result).tables
    notes = [
        pseudo_report.HOW,
        "`nih` is the part of covid3 from one source; `phantom` has four classes, the rarest of them 4 %.",
        *[f"## {table.title}\n\n" + "\n".join(report.table_lines(table)) for table in others],
    ]
    command = f"python -m tests.bench ways --seeds {given.seeds}"
    title = "Ways to learn against expert labels alone"
    tables.write("ways", title, command, gains.header, gains.rows, "\n\n".join(notes))
    kept = {key: result[key] for key in ("rows", "budgets", "num_seeds", "options")}
    write_text(tables.RESULTS / "ways.json", json.dumps(kept, indent=1) + "\n")
