"""What `cxr-ssl submit` does: a command of ours as a job of a Ray cluster.

In: the words of a command, the cluster's address. Out: the `ray job submit` line, or the job's log and exit code.
"""
