"""A model at work for others: a folder that is watched, and a server.

In: a run, and scans as they come. Out: their rows, in files or over HTTP.
"""
