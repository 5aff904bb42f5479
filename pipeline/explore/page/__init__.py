"""The page of `cxr-ssl explore`: served on this machine, behind the same guard as the labelling page.

In: a run, as `viewer` knows it. Out: a page; marks that people leave with it.
"""
