"""Benches: baselines that a reader knows beside published figures, and simulated histories of labelling (`curves/`).

In: a reconstruction of a public set, or pools with labels. Out: tables of figures, ours and theirs.
"""
