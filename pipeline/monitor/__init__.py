"""Whether a batch of new scans is still like those that a run's model was judged on, and if not, what has moved.

In: a run with a classifier, and a pool. Out: `monitor.json`, `history.jsonl` and a page in a folder of the user's
choice; nothing in the run but what can be made again (`monitor_reference.parquet`).
"""
