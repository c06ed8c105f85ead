"""What the data is, on disk and in memory: records, schemas, ids, sources, shards, commit log, dataset. No torch, Ray or OpenCV."""
