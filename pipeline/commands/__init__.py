"""What each command does, from a request to what it prints.

In: a request. Out: a finished command's result, as data and as lines for a terminal.
"""
