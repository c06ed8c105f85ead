"""`hs-data export`: kept clips as films with sound, in the folders that other trainers read."""
