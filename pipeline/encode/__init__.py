"""Encode: the kept clips of a stretch, decoded once, cropped from source pixels, and written as shards."""
