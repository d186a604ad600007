"""The examples in docstrings run and print what they show."""

import doctest
import importlib
import re
from typing import Any

import pytest

from jaxephys.hippie.estimator import Hippie
from jaxephys.schemas.unit_table import UnitTable
from tests.test_docstrings import modules, source_of

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def with_examples() -> list[str]:
    """Return the modules whose source holds an example."""
    return [name for name in modules() if re.search(r"^\s*>>> ", source_of(name).read_text(), flags=re.MULTILINE)]


@pytest.fixture(scope="module")
def fit_once() -> Any:
    """``Hippie.fit``, which trains equal models of equal units once: most examples of that class begin with the same model."""
    fit, fitted = Hippie.fit, {}

    def fit_or_copy(model: Hippie, units: UnitTable, *arguments: Any, **options: Any) -> Hippie:
        if arguments or options:
            return fit(model, units, *arguments, **options)
        key = repr(model), units.sha256
        if key not in fitted:
            fitted[key] = dict(vars(fit(model, units)))  # a copy: an example may fit the model again
        vars(model).update(fitted[key])
        return model

    return fit_or_copy


@pytest.mark.parametrize("module", with_examples())
def test_examples_of_docstrings(module, fit_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder().find(importlib.import_module(module))
    monkeypatch.setattr(Hippie, "fit", fit_once)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in examples:
        runner.run(example)
    result = runner.summarize()
    assert result.attempted > 0
    assert result.failed == 0


def test_the_public_classes_have_examples():
    import jaxephys

    for name in (
        "PatchSeqClassifier",
        "KernelClassifier",
        "Hippie",
        "SpikeTransformer",
        "FeatureTable",
        "UnitTable",
        "Recording",
    ):
        assert ">>> " in (getattr(jaxephys, name).__doc__ or ""), f"{name} has no example in its docstring"
