"""Runs at a URL: worked on in a local copy, published whole, locked and written to by one process at a time.

In: a URL such as `s3://bucket/run`. Out: a folder of this machine that looks like any run's, and the way back.
"""
