"""The overview of a run of independent findings.

In: the folders of its findings. Out: one page and one model card that lead to theirs.
"""
