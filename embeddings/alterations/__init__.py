"""Scans with something taken out of them, for probes that ask what a network reads.

In: the square a network would see. Out: the same square without its lungs, or without its grey levels.
"""
