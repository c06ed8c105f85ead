"""Change a finished dataset: merge, forget, select, split, free disk."""
