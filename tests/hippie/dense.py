"""Dense trunks instead of ResNets: everything around them is the real code, and it compiles in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jaxephys.hippie.imputation import decoding_task
from jaxephys.hippie.network.cvae import TRUNKS
from jaxephys.hippie.network.initialization import variable_shapes
from jaxephys.hippie.task import make_task


@contextmanager
def dense_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "resnet", TRUNKS["dense"])
        clear_caches()
        yield
    clear_caches()


def clear_caches() -> None:
    """Forget the tasks of networks whose trunk has changed."""
    for cached in (variable_shapes, make_task, decoding_task):
        cached.cache_clear()
