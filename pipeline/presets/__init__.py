"""Presets: named settings, one TOML each, that choose the models of every stage."""
