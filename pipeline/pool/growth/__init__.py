"""How other pools join a run, and how its old scans stay as they were.

In: the run's tables, and addresses of pools that join. Out: further rows of its tables.
"""
