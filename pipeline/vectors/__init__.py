"""Scans as vectors: an optional pretraining, embeddings, clusters, components, the neighbour graph.

In: the manifest and the splits. Out: the matrices and lists that selection and learning read.
"""
