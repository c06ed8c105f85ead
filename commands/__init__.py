"""The commands of `hs-data`: parse, call, print. Nothing of ours is imported before a command runs."""
