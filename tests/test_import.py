"""``import jaxephys`` is light: names are imported when they are first used, and JAX does not start before."""

import subprocess
import sys
from pathlib import Path

import pytest

import jaxephys

ROOT = Path(__file__).parents[1]


def run_in_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_does_not_import_jax():
    heavy = ("jax", "flax", "sklearn", "scipy", "matplotlib")
    code = f"import sys, jaxephys; print([name for name in {heavy} if name in sys.modules])"
    assert run_in_new_interpreter(code) == "[]"


def test_the_tables_of_data_do_not_import_jax():
    code = "import sys; from jaxephys import FeatureTable, Recording, UnitTable; print('jax' in sys.modules)"
    assert run_in_new_interpreter(code) == "False"


@pytest.mark.parametrize("name", jaxephys.__all__)
def test_every_public_name_resolves(name):
    value = getattr(jaxephys, name)
    assert name in ("__version__", "TECHNOLOGY_IDS") or value.__name__ == name


def test_public_names_are_listed_and_others_are_refused():
    assert set(dir(jaxephys)) >= set(jaxephys.__all__)
    with pytest.raises(AttributeError, match="module 'jaxephys' has no attribute 'Hipie'"):
        _ = jaxephys.Hipie


def test_a_module_is_imported_when_a_model_of_its_kind_is_loaded():
    code = (
        "import sys, jaxephys; model = jaxephys.load('tests/checkpoints/0.1.0/patchseq'); "
        "print(type(model).__name__, 'jaxephys.spikes.estimator' in sys.modules)"
    )
    assert run_in_new_interpreter(code) == "PatchSeqClassifier False"
