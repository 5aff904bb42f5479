"""What others see of a run while it works: how fast, how long still, which files came from which.

In: what the stages report. Out: `activity.json`, `lineage.jsonl`, and what MLflow or TensorBoard are told.
"""
