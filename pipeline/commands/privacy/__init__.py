"""Whether anything that leads to a patient stands in what a run wrote.

In: a run, and the pool it was made from. Out: file, place, kind and number of each identifier that was found again.
"""
