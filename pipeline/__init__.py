"""Video in, shards out: pure stages, the two passes over a unit, and the run that drives them."""
