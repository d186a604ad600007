"""Who may import whom, names of dimensions, and what no tracked file may say. All by reading the source, none by running."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxephys.dims import DIMENSIONS

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxephys", "experiments", "benchmarks", "data_prep")
SYSTEMS = ("patchseq", "hippie", "spikes")
BELOW = ("engine", "metrics", "stats", "calibration", "discriminant", "kernel", "baselines", "dims")
FACE = ("estimator", "report", "figures", "maps", "card")
MODEL_FILES = ("staircase", "lstm", "encoder", "heads", "network", "two_heads", "tabular", "resnet1d", "dense", "cvae")
NOT_IN_MODELS = ("optax", "orbax", "sklearn", "imblearn")
NOT_IN_DATA_PREP = ("jax", "jaxlib", "flax", "optax", "orbax")
TYPES = ("Float", "Int", "Bool", "Shaped", "Real", "UInt", "Num", "Inexact", "Complex", "Key")


# Imports.


def imports(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Every name imported anywhere in a source, in full: ``from a.b import c`` is ``a.b.c``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") + [""] * is_package
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def allowed(module: str) -> tuple[str, ...]:
    """The parts of this repository that a module may import."""
    package, *inside = module.split(".")
    if package == "data_prep":
        return ("data_prep",)
    if package in ("experiments", "benchmarks"):
        return (package, "jaxephys", "data_prep")  # the upper floor: an experiment may say how its table is made
    here = inside[0] if inside else ""
    if here in ("", "__main__"):
        return ("jaxephys",)
    if here == "dims":
        return ()
    if here in BELOW:
        return tuple(f"jaxephys.{name}" for name in BELOW)
    if here in FACE:
        others = tuple(f"jaxephys.{name}" for name in (*BELOW, *FACE) if name != "baselines")
        return (*others, "jaxephys.__version__")
    assert here in SYSTEMS, f"{module} has no place in the table of imports: give it one"
    if inside[1:] and inside[1] in MODEL_FILES:
        return ("jaxephys.dims", *(f"jaxephys.{here}.{name}" for name in MODEL_FILES))
    return tuple(f"jaxephys.{name}" for name in (*BELOW, "estimator", here))


def forbidden(module: str) -> tuple[str, ...]:
    """The libraries that it may not import."""
    package, *inside = module.split(".")
    if package == "data_prep":
        return NOT_IN_DATA_PREP
    return NOT_IN_MODELS if inside[:1] and inside[0] in SYSTEMS and inside[-1] in MODEL_FILES else ()


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


PLANTED = [
    ("jaxephys.engine.fit", "from jaxephys.patchseq.task import make_task"),
    ("jaxephys.engine.fit", "def late():\n    import jaxephys.patchseq.data"),
    ("jaxephys.engine.fit", "from jaxephys import patchseq"),
    ("jaxephys.engine.fit", "from jaxephys import PatchSeqClassifier"),
    ("jaxephys.engine.fit", "from ..patchseq import data"),
    ("jaxephys.engine.rows", "from jaxephys.estimator import load"),
    ("jaxephys.metrics", "import jaxephys"),
    ("jaxephys.stats", "from jaxephys.report import mean"),
    ("jaxephys.baselines", "from jaxephys.patchseq.data import FamilyTable"),
    ("jaxephys.patchseq.task", "from jaxephys.hippie.task import make_task"),
    ("jaxephys.patchseq.task", "from jaxephys.figures import draw_bars"),
    ("jaxephys.hippie.task", "from jaxephys.patchseq import task"),
    ("jaxephys.patchseq.network", "from jaxephys.patchseq.task import Variant"),
    ("jaxephys.patchseq.encoder", "from .data import FamilyTable"),
    ("jaxephys.patchseq.heads", "import optax"),
    ("jaxephys.patchseq.lstm", "from jaxephys.engine.types import Key"),
    ("jaxephys.patchseq.staircase", "from jaxephys.patchseq.classifier import PatchSeqClassifier"),
    ("jaxephys.estimator", "from jaxephys.patchseq.classifier import PatchSeqClassifier"),
    ("jaxephys.report", "from jaxephys import patchseq"),
    ("jaxephys.figures", "import jaxephys.patchseq"),
    ("jaxephys.dims", "from jaxephys.engine import types"),
    ("jaxephys.patchseq.data", "import data_prep.patchseq"),
    ("jaxephys", "from experiments import quickstart"),
    ("jaxephys.engine.memory", "import benchmarks"),
    ("data_prep.units", "import jax.numpy as jnp"),
    ("data_prep.units", "from flax import linen"),
    ("data_prep.units", "from jaxephys.patchseq.data import SCHEMA"),
    ("data_prep.patchseq.table", "from experiments._run import RunFolder"),
]


@pytest.mark.parametrize(("module", "source"), PLANTED)
def test_a_planted_violation_is_caught(module, source):
    assert len(violations(module, source)) == 1


def test_what_the_table_allows_is_no_violation():
    assert violations("jaxephys.engine.fit", "import jax, optax\nfrom jaxephys.engine import shard\nimport numpy") == []
    assert violations("jaxephys.patchseq.task", "from jaxephys import metrics\nfrom .network import Switches") == []
    assert violations("jaxephys.engine", "from .fit import fit", is_package=True) == []
    assert violations("data_prep.units", "import jaxtyping, numpy") == [], "a name that begins with jax is not jax"


# Dimensions.


def dimension_strings(source: str) -> Iterator[str]:
    """The shape of every annotation. One without quotes, which ruff's UP037 makes of a single name, is an error."""
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
    assert unexplained == {}, "explain these in jaxephys/dims.py, or use a name that stands there"


def test_no_explanation_is_left_over():
    assert set(DIMENSIONS) - set(dimensions_used()) == set()
    assert all(len(text.split()) > 1 for text in DIMENSIONS.values())


def test_the_reader_of_annotations_sees_them_all():
    source = 'def f(x: Float[Array, "*run 4*hidden _ ... 3"] | None) -> dict[str, Int[np.ndarray, "row"]]: ...'
    assert sorted(map(names_in, dimension_strings(source)), key=len) == [{"row"}, {"run", "hidden"}]
    with pytest.raises(AssertionError, match="not in quotes"):
        list(dimension_strings("def f(x: Float[Array, row]): ..."))


# What no tracked file says.

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
def test_a_planted_machine_path_is_found(text):
    assert strange_words(text)
