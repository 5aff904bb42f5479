"""The words everybody agrees on: options, tables on disk, errors, answers, a line of findings.

In: nothing of ours. Out: types that every other room speaks in.
"""
