"""What a run's latest model says of scans that are not its own, and which of them it knows nothing of.

In: a run with a classifier, and a pool. Out: one row a scan, in a file of the user's choice, where wanted with heat
maps and DICOM objects beside it; nothing in the run but what can be made again (`outside.safetensors`,
`calibration.safetensors`, `heat_maps.json`).
"""
