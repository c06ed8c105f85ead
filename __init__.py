"""hs-data: curate talking-face video into training-ready Parquet shards, and train lip-sync diffusion models on them."""
