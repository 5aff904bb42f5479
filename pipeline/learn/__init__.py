"""From labels to a classifier: heads, self-training, the adapted network, pseudo-labels.

In: expert classes and vectors. Out: a classifier, and probabilities of every scan.
"""
