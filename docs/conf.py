"""Sphinx configuration. ``make docs`` builds the site without network access and treats warnings as errors."""

import base64
import importlib.metadata
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "jaxephys"
author = "The jaxephys developers"
project_copyright = "2026, The jaxephys developers"
release = importlib.metadata.version("jaxephys")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
highlight_language = "none"  # blocks without a language are commands, formulas and tables
default_role = "py:obj"  # a name in single backticks is a link, where it is documented
autodoc_typehints = "none"  # shapes and types are part of the docstrings
autodoc_default_options = {"members": True, "show-inheritance": False}
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "jaxephys"
html_show_sourcelink = False
html_sidebars = {"index": [], "**": ["globaltoc.html"]}  # the list of all pages is on the left, not in the header
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
}

API = {  # section of the reference -> packages whose modules it lists
    "schemas": ("jaxephys/schemas", "Data tables and files, NumPy only"),
    "patchseq": ("jaxephys/patchseq", "Patch-seq subclass classifier"),
    "hippie": ("jaxephys/hippie", "HIPPIE autoencoder of extracellular units"),
    "spikes": ("jaxephys/spikes", "Spike-train transformer"),
    "engine": ("jaxephys/engine", "Training of run grids"),
    "models": ("jaxephys/models", "What the estimators share"),
    "evaluation": ("jaxephys/evaluation", "Metrics, intervals, splits, baselines"),
    "reporting": ("jaxephys/reporting", "Score tables, figures, run folders"),
    "data_prep": ("data_prep", "Data preparation"),
}

FIRST = ("estimator", "fit")  # modules that a reader should see first


def write_api_pages(app) -> None:
    """Write one page for each package, with every public module in it, before Sphinx reads the sources."""
    folder = ROOT / "docs" / "api"
    folder.mkdir(exist_ok=True)
    for name, (package, title) in API.items():
        package_name = package.replace("/", ".")
        lines = [f"# `{package_name}`: {title}", ""]
        lines += ["```{eval-rst}", f".. automodule:: {package_name}", "   :no-members:", "```", ""]
        for path in sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.stem not in FIRST, path)):
            relative = path.relative_to(ROOT).with_suffix("")
            if path.name.startswith("_"):
                continue
            module = ".".join(relative.parts)
            lines += [f"## `{module}`", "", "```{eval-rst}", f".. automodule:: {module}", "```", ""]
        text = "\n".join(lines)
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def write_example_pages(app) -> None:
    """Write one page for each notebook of ``examples``, with the printed text and the figures that are stored in it."""
    folder = ROOT / "docs" / "examples"
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        parts, figures = [], 0
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
            for output in cell.get("outputs", []):
                data = output.get("data", {"text/plain": output.get("text", "")})
                if "image/png" in data:
                    figures += 1
                    image = folder / f"{path.stem}_{figures}.png"
                    image.write_bytes(base64.b64decode(data["image/png"]))
                    parts.append(f"![Figure {figures} of this example]({image.name})")
                else:
                    parts.append("```text\n" + "".join(data["text/plain"]).rstrip() + "\n```")
        parts.insert(1, f"The notebook is `examples/{path.name}`.")
        page, text = folder / f"{path.stem}.md", "\n\n".join(parts) + "\n"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def skip_member(app, what, name, obj, skip, options) -> bool:
    """Leave out the metadata-routing methods that scikit-learn adds, and the fields of named tuples ("Alias for field number 0").

    The fields are described under Parameters.
    """
    routing = name == "get_metadata_routing" or (name.startswith("set_") and name.endswith("_request"))
    return skip or routing or type(obj).__name__ == "_tuplegetter"


def mark_literal_blocks(app, what, name, obj, options, lines) -> None:
    """Show the indented blocks of a module docstring (tables, formulas, commands) as they are written.

    reStructuredText joins the lines of an indented block, unless the paragraph before it ends with two colons.
    """
    if what != "module":
        return
    marked, paragraph = [], ""
    for index, line in enumerate(lines):
        starts = line.startswith("    ") and index > 0 and not lines[index - 1].strip()
        if starts and not paragraph.startswith((" ", "*", "-", "..")) and not paragraph.endswith("::"):
            marked += ["::", ""]
        marked.append(line)
        paragraph = line or paragraph
    lines[:] = marked


def setup(app) -> None:
    """Register the page generators, the filter of members, and the literal blocks (before numpydoc reads the docstring)."""
    app.connect("builder-inited", write_api_pages)
    app.connect("builder-inited", write_example_pages)
    app.connect("autodoc-process-docstring", mark_literal_blocks, priority=400)
    app.connect("autodoc-skip-member", skip_member)
