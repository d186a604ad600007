"""Notebooks of ``examples/`` as cells, in a kernel of their own or in this process.

``python -m tests.examples.notebooks NAME ...`` executes notebooks as they are and stores their outputs and figures in them; without a
name, all. A hash of the code is stored as well, by which the tests see that a notebook was changed and not executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = tuple(path.stem for path in sorted(FOLDER.glob("*.ipynb")))
HASH = "code_sha256"
TIMEOUT = 900  # s for a notebook


def read(name: str) -> dict[str, Any]:
    """Return a notebook as stored."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[str]:
    """Return the source of each code cell; the first holds the sizes."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_hash(notebook: dict[str, Any]) -> str:
    """Return the SHA-256 of all code cells."""
    return hashlib.sha256("\n".join(code_cells(notebook)).encode()).hexdigest()


def run_here(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Run the cells of a notebook in this process, which shares compiled programs, and return the variables.

    ``sizes`` replaces variables of the first cell.
    """
    first, *others = code_cells(read(name))
    values: dict[str, Any] = {"__name__": "__main__"}
    exec(first, values)
    unknown = set(sizes) - set(values)
    assert not unknown, f"the first cell of {name} does not set {unknown}"
    values.update(sizes)
    for number, cell in enumerate(others, start=2):
        exec(compile(cell, f"{name}, code cell {number}", "exec"), values)
    return values


def run_in_kernel(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Execute a notebook by nbclient in a kernel of its own, with ``folder/examples`` as working folder, and return it with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    root = FOLDER.parent
    (folder / "examples").mkdir()
    (folder / "tests").symlink_to(root / "tests")
    (folder / "data_prep").symlink_to(root / "data_prep")
    executed = nbformat.reads(json.dumps(notebook), as_version=4)
    resources = {"metadata": {"path": str(folder / "examples")}}
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": str(root)}
    NotebookClient(executed, timeout=TIMEOUT, resources=resources).execute(env=environment)
    return json.loads(nbformat.writes(executed))


def store(name: str) -> None:
    """Execute a notebook and store it with its outputs, without messages on the error stream and the times of execution."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = run_in_kernel(read(name), Path(folder))
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    notebook["metadata"]["language_info"] = {"name": "python"}
    notebook["metadata"][HASH] = code_hash(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{name}.ipynb").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        store(chosen)
        print(f"executed {chosen}")
