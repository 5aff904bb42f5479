"""Drafts for regulators and catalogues: what a run's files show, with what only the author can know left open.

In: what a report has gathered. Out: Markdown, and a description of the run's tables in Croissant.
"""
