"""RunTemplate: what is stored beside the checkpoints of a grid, so that each of its runs can be loaded as an estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jaxephys.engine.fit import take_runs
from jaxephys.engine.orbax_files import readable_errors
from jaxephys.engine.task import PyTree
from jaxephys.models.saved_model import read_model, write_model

FOLDER = "estimator"  # in a checkpoints folder
RUN_PARAMETERS = "run_parameters"  # key of config.json


class RunTemplate(NamedTuple):
    """A saved model of the runs of a grid that lacks their variables, which the checkpoints hold.

    The method ``run_template`` of an estimator makes it.

    Parameters
    ----------
    config : dict
        Content of the ``config.json`` of a saved model.
    arrays : tree of arrays (n_runs, ...)
        What the estimator needs besides the variables, such as the scale that was fitted to the training rows of a run.
    parameters : sequence of mapping, one per run
        Arguments of the estimator in which the runs differ.
    """

    config: dict[str, Any]
    arrays: PyTree
    parameters: Sequence[Mapping[str, Any]]

    def repeat(self, times: int) -> RunTemplate:
        """Return the template of a grid in which every run occurs several times in succession.

        Parameters
        ----------
        times : int
            Number of copies of each run.

        Returns
        -------
        RunTemplate
            The template of ``times`` as many runs.
        """
        indices = np.repeat(np.arange(len(self.parameters)), times)
        parameters = [self.parameters[index] for index in indices.tolist()]
        return self._replace(arrays=take_runs(self.arrays, indices), parameters=parameters)

    def write(self, checkpoints: str | Path) -> None:
        """Write the template into the checkpoints folder of the grid, unless an interrupted training has left one.

        Parameters
        ----------
        checkpoints : str or Path
            The folder.

        Raises
        ------
        CheckpointError
            If it cannot be written.
        """
        if (Path(checkpoints) / FOLDER).exists():
            return
        content = {**self.config, RUN_PARAMETERS: [dict(some) for some in self.parameters]}
        with readable_errors(Path(checkpoints)):
            write_model(Path(checkpoints) / FOLDER, self.arrays, content)


def read_template(checkpoints: str | Path, runs: Int[np.ndarray, "run"]) -> tuple[PyTree, dict[str, Any]]:
    """Read the template of some runs.

    Parameters
    ----------
    checkpoints : str or Path
        A checkpoints folder into which a template was written.
    runs : int array (n_runs,)
        Indices of the runs in the grid.

    Returns
    -------
    arrays : tree of arrays (n_runs, ...)
        The arrays of these runs.
    config : dict
        Content of the ``config.json`` of a saved model. An argument in which these runs differ has its default.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged.
    """
    arrays, config = read_model(Path(checkpoints) / FOLDER)
    of_runs = config.pop(RUN_PARAMETERS)
    first = of_runs[runs[0]]
    common = {name: value for name, value in first.items() if all(of_runs[run][name] == value for run in runs)}
    return take_runs(arrays, runs), {**config, "parameters": {**config["parameters"], **common}}
