"""Plans of blind checks whose bounds hold at every look: of an endless release, and of one of known size.

In: which checks were errors, in their order. Out: the precision that is proven, and the checks that are still needed.
"""
