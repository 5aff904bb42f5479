"""Which faults would the tests of a room not notice? Mutants by mutmut 3, file by file with the file's own tests.

`pip install mutmut`, then `python -m tests.bench.mutation [FILE …] [--sample N]`. Not among the other benches: it takes
an hour and needs a tool that nothing else does. It works in a copy and leaves this folder as it was, but for
`results/mutation.json`, which holds the counts and the diff of every survivor; `results/mutation.md` is written by
hand from it, for only a reader can say which survivor matters.
"""

import argparse
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "mutation.json"
SEED = 0
STATUSES = {0: "survived", 1: "killed", 3: "killed", 5: "no test", 33: "no test"} | dict.fromkeys(
    (-24, 24, 36, 152, 255, -9, -15), "timeout"
)
NEEDED = ("pipeline", "embeddings", "jobs", "configs", "tests")

# The rooms that hold promises: a file, and the tests that are to catch its faults.
TARGETS = {
    "pipeline/measures/certify.py": ["tests/measures/test_certify.py", "tests/measures/test_certify_edges.py"],
    "pipeline/measures/calibrate.py": ["tests/measures/test_calibrate.py", "tests/measures/test_calibrate_bias.py"],
    "pipeline/measures/folds.py": ["tests/measures/test_calibrate.py", "tests/measures/test_folds.py"],
    "pipeline/audit/checks/associations.py": ["tests/audit/test_associations.py", "tests/audit/test_confounding.py"],
    "pipeline/audit/checks/cases.py": ["tests/audit/test_cases.py", "tests/audit/test_thresholds.py"],
    "pipeline/audit/checks/confounding.py": ["tests/audit/test_confounding.py", "tests/audit/test_thresholds.py"],
    "pipeline/audit/checks/copies.py": ["tests/audit/test_copies.py", "tests/audit/test_thresholds.py"],
    "pipeline/audit/checks/holdout_reads.py": ["tests/audit/test_holdout_reads.py"],
    "pipeline/audit/checks/left_out_source.py": ["tests/audit/test_left_out_source.py"],
    "pipeline/audit/checks/patients.py": ["tests/audit/test_patients.py", "tests/audit/test_thresholds.py"],
    "pipeline/audit/checks/shortcuts.py": ["tests/audit/test_shortcuts.py", "tests/audit/test_thresholds.py"],
    "pipeline/audit/checks/unlabelled_slices.py": ["tests/audit/test_unlabelled_slices.py"],
    "pipeline/labels/label_table.py": [
        "tests/labels/test_journal.py",
        "tests/labels/test_label_rows.py",
        "tests/labels/test_label_table.py",
    ],
    "pipeline/labels/verdicts.py": ["tests/labels/test_label_table.py", "tests/labels/test_verdicts.py"],
    "pipeline/labels/training_labels.py": ["tests/labels/test_training_labels.py"],
    "pipeline/labels/journal.py": ["tests/labels/test_journal.py"],
    "pipeline/pool/splits.py": ["tests/pool/test_splits.py"],
}
log = logging.getLogger(__name__)


def main() -> int:
    """Mutate the files named, all of `TARGETS` by default, and add what was found to the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mutation")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, default=150, help="most mutants of a file, drawn with a fixed seed")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for file in given.files or TARGETS:
        row = mutate(file, TARGETS[file], given.sample)
        every = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(every | {file: row}, indent=1, ensure_ascii=False) + "\n", "utf-8")
        log.info("%s: %s", file, {key: value for key, value in row.items() if key != "survivors"})
    return 0


def mutate(file: str, tests: list[str], sample: int) -> dict[str, Any]:
    """Counts of a file's mutants by what became of them, and the diffs of those that no test noticed."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        home = Path(folder)
        for name in NEEDED:
            shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        shutil.copy(ROOT / "README.md", home)
        (home / "pyproject.toml").write_text(
            _settings(file, [test for test in tests if (ROOT / test).exists()]), "utf-8"
        )
        _mutmut(home, "run", "no.such.mutant")  # writes the mutants and learns which test runs what; runs none
        names = sorted(json.loads((home / "mutants" / f"{file}.meta").read_text("utf-8"))["exit_code_by_key"])
        drawn = random.Random(SEED).sample(names, min(sample, len(names)))
        _mutmut(home, "run", "--max-children", "1", *drawn)
        codes = json.loads((home / "mutants" / f"{file}.meta").read_text("utf-8"))["exit_code_by_key"]
        became = {name: STATUSES.get(codes[name], f"exit {codes[name]}") for name in sorted(drawn)}
        alive = [name for name, status in became.items() if status in ("survived", "no test")]
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "mutmut": version("mutmut"),
            "mutants": len(names),
            "run": len(drawn),
            **{
                status: list(became.values()).count(status)
                for status in sorted({*became.values(), "killed", "survived"})
            },
            "survivors": {name: _diff(_mutmut(home, "show", name)) for name in alive},
        }


def _settings(file: str, tests: list[str]) -> str:
    """The project's own settings, and mutmut's for one file."""
    return (ROOT / "pyproject.toml").read_text("utf-8") + "\n".join(
        [
            "",
            "[tool.mutmut]",
            'source_paths = ["pipeline"]',
            f"only_mutate = {json.dumps([file])}",
            f"also_copy = {json.dumps([name for name in NEEDED if name not in ('pipeline', 'tests')])}",
            f"pytest_add_cli_args_test_selection = {json.dumps(tests)}",
            'pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not slow and not ray and not cluster"]',
            "timeout_multiplier = 2.0",
            "timeout_constant = 2.0",
            "use_git_change_detection = false",
            "track_dependencies = false",
            "",
        ]
    )


def _mutmut(home: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *args],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "no.such.mutant" not in args:
        raise RuntimeError(f"mutmut {args[0]}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _diff(shown: str) -> list[str]:
    """The lines that a mutant changed."""
    return [line for line in shown.splitlines() if re.match(r"[+-](?![+-]{2} )", line)]


if __name__ == "__main__":
    raise SystemExit(main())
