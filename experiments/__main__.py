"""``python -m experiments``: what can be run, and what each one reproduces."""

from __future__ import annotations

import ast
from pathlib import Path


def listed() -> dict[str, str]:
    """Each experiment and the first line of its docstring, without importing any of them."""
    modules = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text())) or "" for path in modules}
    return {name: doc.splitlines()[0] if doc else "" for name, doc in docs.items()}


if __name__ == "__main__":
    for name, line in listed().items():
        print(f"experiments.{name:<16} {line}")
    print("\npython -m experiments.NAME [PRESET] [--field value ...], and --help for its presets and fields")
