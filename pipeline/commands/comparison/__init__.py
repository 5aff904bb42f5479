"""What `cxr-ssl compare` does: any number of runs side by side, or the history of the runs in a folder.

In: folders of runs. Out: one page that stands by itself, and the same as data.
"""
