"""Who said what of which scan: the journal of answers, the label table, and what follows from both.

In: answers. Out: classes to learn from, verdicts, agreement; the sealed holdout's labels.
"""
