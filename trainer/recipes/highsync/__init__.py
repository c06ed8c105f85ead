"""HighSync (arXiv 2605.16918): its two stages, network, sampler, and the names of its released weights."""
