"""From scans to vectors; knows nothing of labels.

In: the bytes of scans and a backbone. Out: vectors, kept under the content of the scan.
"""
