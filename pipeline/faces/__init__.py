"""Faces: found in single frames, followed as tracks, and what is seen of each: mouth, sharpness, pose."""
