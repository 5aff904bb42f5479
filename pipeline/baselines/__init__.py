"""Baselines that a reader knows, run through our own pieces, beside published figures and the audit's verdict.

In: a reconstruction of a public set. Out: a table of figures, ours and theirs.
"""
