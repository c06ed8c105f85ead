"""Probe and decode files into the normal form of time: 25 frames a second and 16 kHz mono audio on the same clock."""
