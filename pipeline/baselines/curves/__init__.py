"""Simulated histories of labelling, as curves over the number of labels: strategies, and ways to learn.

In: pools with labels. Out: curves with bands, areas, wins, paired tests, as figures and as a page.
"""
