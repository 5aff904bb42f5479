"""Which pools have joined a run.

In: the run's folder, and what the manifest stage read. Out: `growth.json`, `grown.parquet`, which rounds are frozen.
"""
