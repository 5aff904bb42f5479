"""Answers that come back from other labelling tools.

In: their exports. Out: rows as every reader of answers gives them.
"""
