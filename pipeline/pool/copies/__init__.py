"""Copies that were turned, mirrored, moved, cropped or written upon.

In: 128 x 128 pictures. Out: points of each picture, pairs that share points, whether a pair is one picture and how
the one was made from the other.
"""
