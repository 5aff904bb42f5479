"""Processes: what ends this one before its time, and whether another one still lives.

In: signals, the id of a process. Out: an exception in the main thread; whether a process lives.
"""
