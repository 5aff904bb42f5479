"""A run of independent findings: one queue and one journal for all, and for each finding a run of its own.

In: a run whose scans may show several findings. Out: `findings/NAME`, and what holds for all of them.

Whether a scan shows one finding is a question of two classes, so everything that is known of classes holds for it:
folds, thresholds, certificates, intervals, the audit. Each finding's part of the run is a folder that looks like a run
of that question alone (`findings/NAME`): what depends on the finding lies there, a projection of the run's own; what
does not lies once, in the run, and `runtime.run_files` finds it there. A scan of which a finding is unknown has no
label there, and teaches and tests nothing.
"""
