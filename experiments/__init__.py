"""Experiments: one runnable module a table or figure. `python -m experiments` lists them."""
