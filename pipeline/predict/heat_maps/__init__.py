"""Which places of a scan speak for a finding, and whether a run's maps of that may be shown at all.

In: a run's model and squares that networks see. Out: maps, the checks they have passed or failed, pictures.
"""
