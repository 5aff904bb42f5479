"""The evidence a statistician asks for, of the sealed holdout and once.

In: predictions of the holdout. Out: `evaluation.json`.
"""
