"""Without the extras every test module can still be imported: those that need a package of an extra are skipped first.

The imports are read from the source, so that this takes a second and needs no second environment.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Packages of the extras prep, tfds, ibl, umap and hub, and packages that users may have, by the names under which they are imported.
OPTIONAL = {
    *(
        "ipfx",
        "pynwb",
        "hdmf",
        "argschema",
        "h5py",
        "dandi",
        "dandischema",
        "fasteners",
        "requests",
        "dask",
        "distributed",
    ),
    *("fsspec", "statsmodels", "nwbinspector", "tensorflow_datasets", "array_record", "umap", "one", "iblatlas"),
    *("spikeinterface", "pynapple", "huggingface_hub", "torch"),
}
TEST_MODULES = sorted(path for path in (ROOT / "tests").rglob("test_*.py"))


@cache
def module_file(name: str) -> Path | None:
    """Return the file of a module of this repository, None for others."""
    path = ROOT / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def is_skip(statement: ast.stmt) -> bool:
    """Whether a statement skips the module if a package is missing."""
    if not isinstance(statement, ast.Expr | ast.Assign):
        return False
    return any(isinstance(node, ast.Attribute) and node.attr == "importorskip" for node in ast.walk(statement))


@cache
def imported_at_once(path: Path) -> frozenset[str]:
    """Return the modules that are imported when a file is, up to a statement that may skip it."""
    found: set[str] = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if is_skip(statement):
            break
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found |= {statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)}
    return frozenset(found)


@cache
def needed_packages(path: Path) -> frozenset[str]:
    """Return the optional packages that are imported when a file is, by itself or by modules of this repository."""
    pending, seen, needed = [path], {path}, set()
    while pending:
        for name in imported_at_once(pending.pop()):
            needed |= {name.split(".")[0]} & OPTIONAL
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                file = module_file(".".join(parts[:end]))
                if file is not None and file not in seen:
                    seen.add(file)
                    pending.append(file)
    return frozenset(needed)


@pytest.mark.parametrize("path", TEST_MODULES, ids=[str(path.relative_to(ROOT)) for path in TEST_MODULES])
def test_module_is_collected_without_the_extras(path):
    assert needed_packages(path) == frozenset(), "call pytest.importorskip before the import"


def test_imports_are_followed(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("from data_prep.simulate.nwb import write_nwb\n")
    assert {"pynwb", "hdmf"} <= needed_packages(path)
    path = tmp_path / "guarded.py"
    path.write_text('import pytest\npytest.importorskip("pynwb")\nfrom data_prep.simulate.nwb import write_nwb\n')
    assert needed_packages(path) == frozenset()
