"""The pool to look at: a map, a gallery, tags, and wishes for the next queue, on a page served on this machine.

In: a run whose scans are embedded. Out: a page; marks that people leave; selections as CSV or as a manifest.
"""
