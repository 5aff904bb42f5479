"""Statistics as pure functions: folds, calibration, certificates, metrics, intervals, agreement.

In: arrays. Out: numbers. Nothing here reads a file or knows a run.
"""
