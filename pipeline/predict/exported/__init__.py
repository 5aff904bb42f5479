"""The model without this package: the module that becomes ONNX, and the files and the script beside it.

In: a run and its model. Out: a folder that predicts with onnxruntime, numpy and pillow alone.
"""
