"""How queues leave for annotators and how their answers come back.

In: a queue. Out: pages, files and tasks for people; answers for the journal.
"""
