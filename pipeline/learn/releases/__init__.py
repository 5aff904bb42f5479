"""Pseudo-labels that others may use: frozen, checked blind in a fixed order, certified or not."""
