"""Annotations: what a source says of a file, as stretches of 25 fps frames, boxes and claims on faces."""
