"""Pages of ours over HTTP: who may speak to them, where they listen, what they answer when something is wrong.

In: an application and the names it answers under. Out: a server on this machine, closed to strangers.
"""
