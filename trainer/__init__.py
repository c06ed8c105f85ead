"""The trainer: shards in, model out. It reads `hs_data.manifests` and never imports the pipeline."""
