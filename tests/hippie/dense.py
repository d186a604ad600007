"""Dense trunks where a network asks for ResNets: all that surrounds them is the real one, and it compiles in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jaxephys.hippie.imputation import drawing
from jaxephys.hippie.network.cvae import TRUNKS
from jaxephys.hippie.network.initialization import _shapes
from jaxephys.hippie.task import make_task


@contextmanager
def dense_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRUNKS, "resnet", TRUNKS["dense"])
        forget()
        yield
    forget()


def forget() -> None:
    """The tasks of networks that are other ones now."""
    for remembered in (_shapes, make_task, drawing):
        remembered.cache_clear()
