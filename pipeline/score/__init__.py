"""Score: one pass over a stretch of video that finds candidate clips and measures each; nothing is dropped here."""
