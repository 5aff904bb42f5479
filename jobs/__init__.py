"""Thin entry points for `ray job submit -- python -m jobs.NAME`.

In: arguments of a job. Out: the exit code of the command that it calls.
"""
