"""Parts of the page that speak of one thing each.

In: what `gather` read of a run. Out: their sentences and the rows of their tables.
"""
