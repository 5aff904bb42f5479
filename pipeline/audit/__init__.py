"""What may make a pool, a split or a run no evidence, found before anybody relies on it.

In: pool, labels and vectors. Out: `audit.json` with its verdict, and the page that shows it.
"""
