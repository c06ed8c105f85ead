"""One reader per source dataset: which files it holds and what its authors say about them."""
