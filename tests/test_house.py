"""The house keeps its plan: who imports whom, one name for one dimension, and nothing that belongs to one machine only."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from jaxephys.dims import DIMENSIONS

ROOT = Path(__file__).parents[1]
SYSTEMS = ("patchseq", "hippie", "spikes")
FLOOR = ("jaxephys.engine", "jaxephys.metrics", "jaxephys.stats", "jaxephys.baselines", "jaxephys.dims")
MODELS = ("staircase", "lstm", "encoder", "heads", "network")


def imported(source: str) -> set[str]:
    """The modules a source imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(module: str) -> tuple[str, ...]:
    """The prefixes that a module (``jaxephys/engine/fit.py``) must not import."""
    parts = Path(module).with_suffix("").parts
    systems = tuple(f"jaxephys.{system}" for system in SYSTEMS)
    if parts[0] == "data_prep":
        return ("jaxephys", "jax", "flax", "experiments")
    if parts[0] != "jaxephys":
        return ("data_prep",)
    outside = ("data_prep", "experiments", "benchmarks")
    if parts[1] in SYSTEMS:
        others = tuple(system for system in systems if system != f"jaxephys.{parts[1]}")
        own = tuple(f"jaxephys.{parts[1]}.{name}" for name in ("task", "data", "smote", "classifier", "planted"))
        model = ("optax", "jaxephys.engine", *own) if parts[-1] in MODELS else ()
        return (*outside, *others, "jaxephys.report", "jaxephys.figures", *model)
    if parts[1] in ("__init__", "__main__"):
        return outside
    return (*outside, *systems)


def breaches(module: str, source: str) -> list[str]:
    return [name for name in imported(source) for no in forbidden(module) if name == no or name.startswith(f"{no}.")]


def sources() -> list[str]:
    folders = ("jaxephys", "experiments", "data_prep", "benchmarks")
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("module", sources())
def test_imports_keep_to_the_plan(module):
    assert breaches(module, (ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    "module, line",
    [
        ("jaxephys/engine/fit.py", "from jaxephys.patchseq import task"),
        ("jaxephys/hippie/task.py", "from jaxephys.patchseq.task import Variant"),
        ("jaxephys/patchseq/lstm.py", "import optax"),
        ("jaxephys/report.py", "def f():\n    import jaxephys.patchseq.data"),
        ("data_prep/spca.py", "import jax.numpy as jnp"),
        ("jaxephys/patchseq/data.py", "from data_prep import units"),
    ],
)
def test_a_planted_breach_is_found(module, line):
    assert breaches(module, line)


def annotated_dimensions() -> set[str]:
    kinds = r"(?:Float|Int|Bool|Shaped|Real|Num)\[[^\[\]]*(?:\[[^\[\]]*\])?[^\[\]]*?,\s*\"([^\"]*)\"\]"
    text = "\n".join((ROOT / module).read_text() for module in sources() if module.startswith("jaxephys"))
    words = {word.lstrip("*") for dims in re.findall(kinds, text) for word in dims.split()}
    return {word for word in words if word not in ("...", "_", "") and not word.isdigit()}


def test_every_dimension_is_explained_and_every_explanation_used():
    assert annotated_dimensions() == set(DIMENSIONS)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_no_file_names_a_machine_path_or_a_registry():
    strange = re.compile("/" + "work/|/" + "root/|pypi" + r"\.|index" + "-url=http|http[s]?://[^ ]*simple/")
    for path in tracked():
        if path.suffix in (".py", ".md", ".toml", ".lock", "") and path.is_file():
            found = strange.search(path.read_text())
            assert found is None, f"{path}: {found}"


def test_the_lock_names_no_host():
    assert "http" not in (ROOT / "requirements.lock").read_text()
