"""Which scans are worth an expert's minute.

In: vectors, and what is answered already. Out: the queue of a round.
"""
