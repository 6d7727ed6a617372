"""Utterances and what of them is shown: batches, benchmarks and their names, missingness, metrics."""
