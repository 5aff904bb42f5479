"""A run whose pool grows: which pools joined it and when, and how its old scans stay as they were.

In: the run, and the addresses of pools that join. Out: `growth.json`, `grown.parquet`, and further rows of its tables.
"""
