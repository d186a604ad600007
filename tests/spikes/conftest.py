"""Networks that are trained once for all tests that only ask them."""

import pytest

from jaxephys import SpikeTransformer
from tests.spikes.planted import SMALL, planted


@pytest.fixture(scope="session")
def model():
    """Two networks, one a recording."""
    return SpikeTransformer(**SMALL, learning_rate=0.02, progress=False).fit([planted(0), planted(1)])
