"""Label Studio: tasks out, exports back in.

In: a queue's rows, or an export. Out: tasks, or filled rows.
"""
