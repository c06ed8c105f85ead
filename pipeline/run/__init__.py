"""Plan, workers and commits: the only room that knows of Ray, processes and resuming."""
