"""Every public definition has a complete numpydoc docstring. ``python -m tests.test_docstrings [FOLDER ...]`` lists what is missing."""

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from numpydoc.validate import validate

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxephys", "data_prep", "experiments", "benchmarks")
CODES = {
    "GL08": "no docstring",
    "SS01": "no summary",
    "SS02": "the summary does not start with a capital letter",
    "SS03": "the summary does not end with a period",
    "PR01": "undocumented parameters",
    "PR02": "unknown parameters",
    "PR03": "parameters in another order",
    "PR04": "a parameter without a type",
    "PR07": "a parameter without a description",
    "RT01": "no Returns section",
    "YD01": "no Yields section",
}
IMPLICIT = ("name", "parent")  # parameters that flax adds to every module


def modules() -> list[str]:
    """Return every module of the packages by its dotted name."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    return [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts]


def source_of(module: str) -> Path:
    """Return the file of a module."""
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """Yield the public functions, classes and methods that a source defines."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def is_setting(node: ast.AST) -> bool:
    """Whether a class documents its fields by a string below each of them, which the command line shows as help."""
    fields = [isinstance(one, ast.AnnAssign) for one in getattr(node, "body", [])]
    texts = [isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in getattr(node, "body", [])]
    return isinstance(node, ast.ClassDef) and any(a and b for a, b in zip(fields, texts[1:], strict=False))


def is_enum(node: ast.AST) -> bool:
    """Whether a class is an enumeration: its members are no parameters, and nobody constructs it with those of Enum."""
    return isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith(("Enum", "Flag")) for base in node.bases)


def needs_torch(module: str) -> bool:
    """Whether a module cannot be imported here for want of PyTorch, which is an extra of the benchmarks."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return True
    return False


@cache
def problems(module: str) -> tuple[str, ...]:
    """Return what the docstrings of a module lack, one line for each definition and problem."""
    tree = ast.parse(source_of(module).read_text())
    found = [] if ast.get_docstring(tree) or not tree.body else [f"{module}: no module docstring"]
    importlib.import_module(module)
    for name, node in public(tree.body):
        decorators = {ast.unparse(one) for one in node.decorator_list}
        if "overload" in decorators:
            continue
        for code, message in validate(f"{module}.{name}")["errors"]:
            if code not in CODES or (code.startswith("PR") and (is_setting(node) or is_enum(node))):
                continue
            if code == "PR01":
                missing = message.split("{")[1].split("}")[0].replace("'", "").split(", ")
                if not set(missing) - set(IMPLICIT):
                    continue
            if code == "RT01" and ("property" in decorators or "cached_property" in decorators):
                continue
            found.append(f"{module}.{name}: {code} {message}")
    return tuple(found)


@pytest.mark.parametrize("module", modules())
def test_docstrings_are_complete(module):
    if needs_torch(module):
        pytest.skip("torch is not installed")
    assert problems(module) == ()


if __name__ == "__main__":
    chosen = [one for one in modules() if any(one.startswith(prefix) for prefix in sys.argv[1:] or PACKAGES)]
    skipped = [module for module in chosen if needs_torch(module)]
    lines = [line for module in chosen if module not in skipped for line in problems(module)]
    print("\n".join(lines))
    without = f"; not checked, because torch is not installed: {', '.join(skipped)}" if skipped else ""
    print(f"{len(lines)} problems in {len(chosen) - len(skipped)} modules{without}", file=sys.stderr)
