"""Pseudo-labels that others may use: frozen, checked blind in a fixed order, certified or not.

In: the pseudo-labels of a round, the answers of experts. Out: the frozen release, the scans to check next, and what the
checks prove.
"""
