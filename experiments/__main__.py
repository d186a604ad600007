"""``python -m experiments`` lists the experiments and what each of them reproduces."""

from __future__ import annotations

import ast
from pathlib import Path

SHARED = ("__init__", "__main__", "command_line")  # modules that are not experiments


def list_experiments() -> dict[str, str]:
    """Return the experiments and the first lines of their docstrings, without importing them.

    Returns
    -------
    dict of str to str
        Descriptions by module name, sorted by name.
    """
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED)
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text())) or "" for path in modules}
    return {name: doc.splitlines()[0] if doc else "" for name, doc in docs.items()}


if __name__ == "__main__":
    for name, line in list_experiments().items():
        print(f"experiments.{name:<18} {line}")
    print("\npython -m experiments.NAME [PRESET] [--field value ...], and --help for its presets and fields")
