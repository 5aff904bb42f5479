"""Baselines that a reader knows, run through our own pieces, beside published figures and the audit's verdict."""
