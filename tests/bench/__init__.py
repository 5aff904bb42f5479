"""Longer evidence: `make bench`, or `python -m tests.bench NAME`. Result tables are committed in `results/`."""
