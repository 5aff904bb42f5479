"""Self-supervised training of a backbone on unlabelled scans: pixels -> views -> method -> loop -> weights and card.

In: scans without labels. Out: a folder that `backbone.name` can be.
"""
