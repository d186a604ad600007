"""Experiments: one runnable module per table or figure. ``python -m experiments`` lists them."""
