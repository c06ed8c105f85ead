"""Shards to batches: which clips, in which order, cut how, read from a memory map."""
