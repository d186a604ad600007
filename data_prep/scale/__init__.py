"""Run one function over thousands of items, on this machine or on a cluster; a killed run goes on where it was.

::

    outcomes = run_over(paths, features_of, "features", workers=8, timeout=600)
    for outcome in outcomes:                     # one for every item, in its order
        print(outcome.key, outcome.reason or outcome.load()[1])
"""

from data_prep.scale.outcome import Outcome, Result, ScaleError, file_stamp
from data_prep.scale.run import run_over

__all__ = ["Outcome", "Result", "ScaleError", "file_stamp", "run_over"]
