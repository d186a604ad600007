"""Run folders: a run is not resumed with other data."""

import numpy as np
import pytest
from rich.console import Console

from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    def announce(data: np.ndarray, settings: Settings) -> None:
        RunFolder(tmp_path, "test", settings, [], Console(quiet=True)).announce_run(1, cells=data)

    resumed = Settings(resume=tmp_path)
    announce(np.zeros(3), resumed)  # the run was killed before it wrote a manifest
    announce(np.zeros(3), resumed)
    with pytest.raises(ValueError, match="the data of cells are not those"):
        announce(np.ones(3), resumed)
    announce(np.ones(3), Settings())
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="damaged: remove it"):
        announce(np.ones(3), resumed)
