"""Heads on features: linear ones and small networks, on one worker or several.

In: rows with features, class probabilities and weights. Out: a head, as plain arrays.
"""
