"""Metrics, a module for each family: it declares its columns and limits beside the function that measures them."""
