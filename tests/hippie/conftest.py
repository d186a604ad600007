"""Tables of simulated units for the tests of the benchmark."""

import pytest

from data_prep.units.registry import find_dataset
from jaxephys.hippie.datasets import read_tables
from tests.hippie.example_tables import SETS, write_tables


@pytest.fixture(scope="package")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    write_tables(folder, SETS)
    return read_tables(folder, find_dataset)
