"""Sync: how early the sound is, from SyncNet's distances or from mouth opening alone; where speech is; calibration."""
