"""What the data is, on disk and in memory: records, sources, shards, commit log. No torch, Ray or cv2."""
