"""What a model says of a DICOM file, as DICOM objects that a hospital's archive can keep beside it.

In: a file's header, its row, pictures of heat maps. Out: a structured report and secondary captures.
"""
