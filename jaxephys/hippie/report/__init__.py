"""Scores, tables and figures of the experiments on sorted units."""
