"""Public sets of chest X-rays, read as their owners ship them: `nih:FOLDER`, `chexpert:FOLDER`, ...

In: the folder of a set. Out: a row a scan with its patient, findings and who said so; readings where several read it.
"""
