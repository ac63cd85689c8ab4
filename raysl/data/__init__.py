"""Images, splits, subsets, the store and its importers."""
