"""What DICOM's tags say of a scan, and which files are no frontal chest X-rays.

In: a DICOM file's tags. Out: columns of the manifest, ids hashed; the reason why a file is set aside.
"""
