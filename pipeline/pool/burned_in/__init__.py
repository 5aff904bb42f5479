"""Text burnt into pictures: names, dates and numbers that no removal of tags takes away.

In: a decoded picture; the manifest. Out: whether a picture holds a line of text; which scans are not handed on.
"""
