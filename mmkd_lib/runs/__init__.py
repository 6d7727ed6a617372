"""Experiments by key: planned, trained where the store lacks them, tested, kept, shipped."""
