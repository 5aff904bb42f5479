"""The labelling page of `cxr-ssl annotate`: served on this machine, or as one file that opens without a server.

In: the open scans of a round. Out: a page, and the answers given at it.
"""
