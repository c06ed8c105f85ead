"""Workers: a unit of work, the process that does it, and the pools of processes, local or of Ray."""
