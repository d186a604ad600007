"""Environment variables that must be set before JAX starts, and the check of every annotation against the arrays it describes."""

import gc
import os
import warnings
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
LONG = ("test_doctests.py", "test_documentation.py")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxephys" / "xla-tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers of pytest share the cores
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # the tests compile far longer than they compute

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
# Small programs, too: compiling them took half the time of a second run.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# From here on every function of the package checks its annotations: dtypes, ranks, and that a name means one length.
install_import_hook("jaxephys", "beartype.beartype")

warnings.filterwarnings("ignore", category=DeprecationWarning, module="orbax")


def pytest_collection_modifyitems(items: list) -> None:
    """The longest files first, so that no worker is left with one at the end: those that run commands."""
    items.sort(key=lambda item: item.path.parent.name != "experiments" and item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """Collect garbage rarely, and never what was imported: traces allocate so many objects that it took a seventh of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
