"""The scans: where they come from, which are copies, who may be learnt from.

In: the address of a pool. Out: `manifest.parquet`, `duplicates.parquet`, `splits.parquet`.
"""
