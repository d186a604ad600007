"""The architecture: which package may import which, names of array dimensions, and text that no tracked file may contain.

Everything is checked by reading the source; nothing is run.
"""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxephys.dimensions import DIMENSIONS

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxephys", "experiments", "benchmarks", "data_prep")
SYSTEMS = ("patchseq", "hippie", "spikes")
# Each part of jaxephys and the parts that it may import besides itself. A system may import all of them but another system.
LAYERS = {
    "dimensions": (),
    "schemas": ("dimensions",),
    "engine": ("dimensions",),
    "models": ("dimensions", "engine", "__version__"),
    "evaluation": ("dimensions", "schemas", "engine"),
    "reporting": ("dimensions", "schemas", "engine", "models", "evaluation", "__version__"),
}
NETWORK_FILES = {"patchseq": "network", "hippie": "network", "spikes": "network"}  # a module, or a package of modules
NOT_IN_NETWORKS = ("optax", "orbax", "sklearn", "imblearn")
NOT_IN_SCHEMAS = ("jax", "jaxlib", "flax", "optax", "orbax", "sklearn")
NOT_IN_DATA_PREP = ("jax", "jaxlib", "flax", "optax", "orbax")
# Modules without a task, data or optimizer that a network of a system is built from.
SHARED_LAYERS = "jaxephys.models.dropout"
NETWORK_HELPERS = {"spikes": ("jaxephys.spikes.attention", "jaxephys.spikes.history")}
TYPES = ("Float", "Int", "Bool", "Shaped", "Real", "UInt", "Num", "Inexact", "Complex", "Key")


# Imports.


def imports(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield the full name of every import in a source: ``from a.b import c`` is ``a.b.c``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") + [""] * is_package
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def is_network(inside: list[str]) -> bool:
    """Whether a module of a system, given by its parts after ``jaxephys``, defines a neural network."""
    return len(inside) > 1 and inside[1] == NETWORK_FILES.get(inside[0])


def allowed(module: str) -> tuple[str, ...]:
    """Return the parts of this repository that a module may import."""
    package, *inside = module.split(".")
    if package == "data_prep":
        return ("data_prep", "jaxephys.schemas")
    if package in ("experiments", "benchmarks"):
        return (package, "jaxephys", "data_prep")
    part = inside[0] if inside else ""
    if part in ("", "__main__", "cli"):
        return ("jaxephys",)
    if part in LAYERS:
        return tuple(f"jaxephys.{name}" for name in (part, *LAYERS[part]))
    assert part in SYSTEMS, f"{module} belongs to no layer: add it to LAYERS"
    if is_network(inside):
        return (
            "jaxephys.dimensions",
            "jaxephys.schemas",
            f"jaxephys.{part}.{inside[1]}",
            SHARED_LAYERS,
            *NETWORK_HELPERS.get(part, ()),
        )
    return tuple(f"jaxephys.{name}" for name in (part, *LAYERS))


def forbidden(module: str) -> tuple[str, ...]:
    """Return the libraries that a module may not import."""
    package, *inside = module.split(".")
    if package == "data_prep":
        return NOT_IN_DATA_PREP
    if inside[:1] == ["schemas"]:
        return NOT_IN_SCHEMAS
    return NOT_IN_NETWORKS if is_network(inside) else ()


def within(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    found = []
    for name in imports(module, source, is_package=is_package):
        ours = name.split(".")[0] in PACKAGES
        if (ours and not within(name, allowed(module))) or within(name, forbidden(module)):
            found.append(f"{module} imports {name}")
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[module for module, _ in modules()])
def test_every_import_follows_the_table(module, path):
    assert violations(module, path.read_text(), is_package=path.name == "__init__.py") == []


VIOLATIONS = [
    ("jaxephys.engine.fit", "from jaxephys.patchseq.task import make_task"),
    ("jaxephys.engine.fit", "def late():\n    import jaxephys.patchseq.estimator"),
    ("jaxephys.engine.fit", "from jaxephys import patchseq"),
    ("jaxephys.engine.fit", "from jaxephys import PatchSeqClassifier"),
    ("jaxephys.engine.fit", "from ..patchseq import estimator"),
    ("jaxephys.engine.rows", "from jaxephys.models.loading import load"),
    ("jaxephys.evaluation.metrics", "import jaxephys"),
    ("jaxephys.evaluation.intervals", "from jaxephys.reporting.score_table import mean"),
    ("jaxephys.evaluation.baselines", "from jaxephys.patchseq.estimator import PatchSeqClassifier"),
    ("jaxephys.patchseq.task", "from jaxephys.hippie.task import make_task"),
    ("jaxephys.hippie.task", "from jaxephys.patchseq import task"),
    ("jaxephys.patchseq.network.classifier", "from jaxephys.patchseq.task import Variant"),
    ("jaxephys.patchseq.network.encoder", "from ..estimator import PatchSeqClassifier"),
    ("jaxephys.patchseq.network.heads", "import optax"),
    ("jaxephys.patchseq.network.heads", "from jaxephys.models.base import EnsembleEstimator"),
    ("jaxephys.patchseq.network.lstm", "from jaxephys.engine.task import Key"),
    ("jaxephys.spikes.network", "from jaxephys.spikes.task import make_task"),
    ("jaxephys.models.base", "from jaxephys.patchseq.estimator import PatchSeqClassifier"),
    ("jaxephys.models.saved_model", "from jaxephys import Hippie"),
    ("jaxephys.reporting.score_table", "from jaxephys import patchseq"),
    ("jaxephys.reporting.plots", "import jaxephys.patchseq"),
    ("jaxephys.dimensions", "from jaxephys.engine import task"),
    ("jaxephys.schemas.feature_table", "from jaxephys.engine import task"),
    ("jaxephys.schemas.feature_table", "import jax"),
    ("jaxephys.schemas.feature_table", "import data_prep.patchseq"),
    ("jaxephys.patchseq.grid", "import data_prep.patchseq"),
    ("jaxephys", "from experiments import quickstart"),
    ("jaxephys.engine.memory", "import benchmarks"),
    ("data_prep.units", "import jax.numpy as jnp"),
    ("data_prep.units", "from flax import linen"),
    ("data_prep.units", "from jaxephys.patchseq.estimator import PatchSeqClassifier"),
    ("data_prep.patchseq.extract", "from experiments.quickstart import run"),
]


@pytest.mark.parametrize(("module", "source"), VIOLATIONS)
def test_violation_is_found(module, source):
    assert len(violations(module, source)) == 1


def test_what_the_table_allows_is_no_violation():
    assert (
        violations("jaxephys.engine.fit", "import jax, optax\nfrom jaxephys.engine import devices\nimport numpy") == []
    )
    assert (
        violations("jaxephys.patchseq.task", "from jaxephys.evaluation import metrics\nfrom .network import Switches")
        == []
    )
    assert violations("jaxephys.engine", "from .fit import fit", is_package=True) == []
    assert violations("data_prep.units", "import jaxtyping, numpy") == [], "a name that begins with jax is not jax"


# Dimensions.


def dimension_strings(source: str) -> Iterator[str]:
    """Yield the shape of every annotation. A shape without quotes, into which UP037 of ruff turns a single name, is an error."""
    for node in ast.walk(ast.parse(source)):
        named = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in TYPES
        if named and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2:
            shape = node.slice.elts[1]
            quoted = isinstance(shape, ast.Constant) and isinstance(shape.value, str)
            assert quoted, f"line {node.lineno}: {ast.unparse(node)} has its dimensions not in quotes"
            yield shape.value


def names_in(shape: str) -> set[str]:
    return {name for name in re.findall(r"[A-Za-z_]\w*", shape) if name != "_"}


def dimensions_used() -> dict[str, str]:
    used = {}
    for module, path in modules():
        if module.startswith("jaxephys"):
            for shape in dimension_strings(path.read_text()):
                used.update(dict.fromkeys(names_in(shape), module))
    return used


def test_every_dimension_is_explained():
    unexplained = {name: module for name, module in dimensions_used().items() if name not in DIMENSIONS}
    assert unexplained == {}, "explain these in jaxephys/dimensions.py, or use one of its names"


def test_no_explanation_is_left_over():
    assert set(DIMENSIONS) - set(dimensions_used()) == set()
    assert all(len(text.split()) > 1 for text in DIMENSIONS.values())


def test_all_dimension_strings_are_found():
    source = 'def f(x: Float[Array, "*run 4*hidden _ ... 3"] | None) -> dict[str, Int[np.ndarray, "row"]]: ...'
    assert sorted(map(names_in, dimension_strings(source)), key=len) == [{"row"}, {"run", "hidden"}]
    with pytest.raises(AssertionError, match="not in quotes"):
        list(dimension_strings("def f(x: Float[Array, row]): ..."))


# Text that no tracked file may contain.

MACHINE_PATHS = [re.compile(rf"(?<![\w.])/{name}/\w") for name in ("work", "root", r"home/\w+", "Users")]
HOSTS = [
    re.compile(name) for name in ("py" + r"pi\.", "python" + "hosted", "extra-" + "index-url", r"art" + "ifactory")
]


def strange_words(text: str) -> list[str]:
    return [match.group() for pattern in (*MACHINE_PATHS, *HOSTS) for match in pattern.finditer(text)]


def tracked_texts() -> list[tuple[str, str]]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = []
    for name in filter(None, listed.split("\0")):
        try:
            texts.append((name, (ROOT / name).read_text()))
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted
    return texts


def test_no_tracked_file_names_a_machine_or_a_registry():
    texts = tracked_texts()
    assert "pyproject.toml" in dict(texts)
    assert {name: words for name, text in texts if (words := strange_words(text))} == {}


@pytest.mark.parametrize("text", ["open('/" + "work/data')", "cd /" + "root/x", "https://py" + "pi.org/simple"])
def test_a_machine_path_is_found(text):
    assert strange_words(text)
