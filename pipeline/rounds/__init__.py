"""Select, wait for answers, learn, score: round after round.

In: everything the stages before have left. Out: `rounds/RR`, `metrics.jsonl`, `predictions.parquet`.
"""
