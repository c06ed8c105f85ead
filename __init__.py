"""hs-data: curate talking-face video into training-ready shards, and train lip-sync diffusion models on them."""
