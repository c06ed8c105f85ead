"""The demo source: real media with known truth, drawn on the spot from a photograph that ships in a dependency."""
