"""What later stages ask of a scan's picture, so small that it can be kept: a full-size scan is decoded once.

In: a decoded picture. Out: squares of it, its grey levels and borders, in a file of this machine's cache by content.
"""
