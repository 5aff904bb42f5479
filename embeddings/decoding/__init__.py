"""The bytes of a scan's file, of whatever kind, and what black and white are in it.

In: an address, or bytes. Out: a grey picture with black and white as the file means them, or why there is none.
"""
