"""The adapted network: late stages of the backbone that learn what the student says of the pool.

In: a student and the lessons of its folds. Out: a trained network, its curves, and its logits for every scan.
"""
