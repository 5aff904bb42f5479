"""One file a set: what its tables say of its scans. Each has a `read(folder)`, see `public_set.Reader`.

In: the files of a set. Out: a `public_set.SetScans`.
"""
