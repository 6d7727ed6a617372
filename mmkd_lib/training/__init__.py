"""From ready data to trained weights: stacked seeds, optimisation, selection, what networks say when tested."""
