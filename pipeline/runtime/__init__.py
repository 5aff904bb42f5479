"""Where and how work runs: the engine, a stage's context, the run directory and which file lies where.

In: a configuration and a folder. Out: a place to work in, and its files by name.
"""
