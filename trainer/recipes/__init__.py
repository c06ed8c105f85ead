"""Recipes: what is trained and on what. A folder each, found by `registry`; `recipe` is their interface."""
