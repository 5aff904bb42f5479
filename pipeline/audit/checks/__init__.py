"""The checks, one subject a file.

In: the audited pool. Out: findings with a severity, a number and evidence.
"""
