"""Pools that join a run.

In: a run, and addresses of pools. Out: the run with their scans, and what `status` says of them.
"""
