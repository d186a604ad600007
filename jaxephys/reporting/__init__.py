"""Reporting: score tables, figures, report.md and the folder of an experiment run.

Start with `run_folder.RunFolder`, which trains grids under a progress bar and writes all files of a run.
"""
