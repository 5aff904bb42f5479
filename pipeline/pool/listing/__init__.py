"""What a pool's table or folders say, read with forgiveness: which files, which class, whose scan, which are wanted.

In: columns and names as people write them. Out: the same in one spelling, and notes of all changes.
"""
