"""Tables of people, in any form that they are saved in: CSV with its many habits, Excel workbooks, Parquet.

In: a name and bytes. Out: a header, rows of text with their line numbers, and a note of all that was forgiven.
"""
