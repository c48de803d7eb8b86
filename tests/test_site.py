"""What the site must hold, read from its sources: every public name, every variable, every page within reach."""

import ast
import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import distinct_async
from distinct_async import errors
from distinct_async.vendors import VENDORS

from .documents import BLOCK, ROOT, SITE

PACKAGE = Path(distinct_async.__file__).parent
REFERENCE = "".join(page.read_text(encoding="utf-8") for page in sorted((SITE / "reference").glob("*.md")))
INNER = {"distinct_async.sansio", "distinct_async.walk"}  # export names, but are internal
# A name is relative to the last `currentmodule` or `automodule`, or complete.
DIRECTIVE = re.compile(r"^\.\. (\w+):: ([\w.]+)", re.MULTILINE)


def documented() -> set[str]:
    names, module = set(), ""
    for directive, name in DIRECTIVE.findall(REFERENCE):
        if directive in {"automodule", "currentmodule"}:
            module = name
            names.add(name)
        else:
            names |= {name, f"{module}.{name}"}
    return names


def public() -> dict[str, list[str]]:
    """What each public module exports, without importing what needs an extra."""
    found = {}
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py")]:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for line in ast.parse(path.read_text(encoding="utf-8")).body:
            match line:
                case ast.Assign(targets=[ast.Name("__all__")], value=names) if module not in INNER:
                    found[module] = list(ast.literal_eval(names))
    return found


@pytest.mark.parametrize("module", sorted(public()))
def test_every_public_name_is_in_the_reference(module: str) -> None:
    assert [] == [name for name in public()[module] if f"{module}.{name}" not in documented()]


# FastAPI is an extra.
SUMMARIES = ("client", "walks", "models", "errors", "etl", "aiohttp-web", "testing")


@pytest.mark.parametrize("page", SUMMARIES)
def test_a_page_of_the_reference_begins_with_its_names_which_github_shows_too(page: str) -> None:
    text = (SITE / "reference" / f"{page}.md").read_text(encoding="utf-8")

    assert [] == [row for row in summary(text) if row not in text]


def summary(text: str) -> list[str]:
    """The row of each name that a page describes: the first paragraph of its docstring."""
    rows, module = [], ""
    for directive, name in DIRECTIVE.findall(text):
        module = name if directive in {"automodule", "currentmodule"} else module
        if directive in {"autoclass", "autoexception", "autofunction"}:
            full = name if name.startswith("distinct_async.") else f"{module}.{name}"
            where, _, short = full.rpartition(".")
            where = where.replace("distinct_async.testing.plugin", "_distinct_async_pytest")  # as pytest loads it
            first, *_ = (inspect.getdoc(getattr(importlib.import_module(where), short)) or "").split("\n\n")
            rows.append(f"| `{short}` | {' '.join(first.split()).replace('``', '`').removesuffix('.')} |")
    return rows


def test_these_are_the_public_modules() -> None:
    names = ("aiohttp_web", "errors", "fastapi", "models", "testing")
    assert {"distinct_async", *(f"distinct_async.{name}" for name in names)} <= {*public()}


def test_every_variable_is_on_its_page() -> None:
    page = (SITE / "reference" / "environment.md").read_text(encoding="utf-8")

    variables = [text for each in VENDORS.values() for text in (each.key_variable, each.url_variable, each.base_url)]
    assert [] == [name for name in variables if f"`{name}`" not in page]


def test_every_link_of_the_readme_to_a_file_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme)
    assert links
    assert [] == [link for link in links if not (ROOT / link).exists()]


def test_every_error_is_in_troubleshooting() -> None:
    page = (SITE / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    names = {*errors.__all__} - {"DistinctError"}  # which only its subclasses are raised as
    assert [] == sorted(name for name in names if f"`{name}`" not in page)


def test_the_menu_has_at_most_20_entries_and_the_readme_90_lines() -> None:
    index = (SITE / "index.md").read_text(encoding="utf-8")
    menus = re.findall(r"^```{toctree}\n(?::.*\n)*\n(.*?)^```", index, re.MULTILINE | re.DOTALL)
    assert 0 < sum(len(menu.splitlines()) for menu in menus) <= 20
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_a_page_says_where_blocks_with_a_bare_await_run() -> None:
    silent = []
    for page in SITE.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.findall(text):
            try:
                compile(block, page.name, "exec")
            except SyntaxError:
                if "`python -m asyncio`" not in text:
                    silent.append(page.name)
    assert [] == silent


def test_the_picture_of_the_benchmarks_shows_their_last_table() -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    plot = runpy.run_path(str(ROOT / "benchmarks" / "plot.py"))

    assert plot["drawn"](readme) == (SITE / "benchmarks.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["benchmarks.svg", "explanation/capped.svg", "explanation/layers.svg"])
def test_a_drawing_is_legible_at_400_pixels_and_in_the_dark(name: str) -> None:
    drawing = (SITE / name).read_text(encoding="utf-8")
    (width,) = re.findall(r'viewBox="0 0 (\d+) ', drawing)

    assert 12 <= min(map(int, re.findall(r"(\d+)px ", drawing))) * 360 / int(width)
    assert "@media (prefers-color-scheme: dark)" in drawing
    assert [] == re.findall(r"^.*(?:fill|stroke)=\"#.*$", drawing, re.MULTILINE)  # colours are in its styles


@pytest.mark.parametrize("inventory", sorted((SITE / "inventories").iterdir()), ids=lambda path: path.stem)
def test_the_site_links_names_of_other_packages_that_exist(inventory: Path) -> None:
    _, _, _, *lines = inventory.read_text(encoding="utf-8").splitlines()
    names = [line.split()[0] for line in lines]
    assert sorted(names) == names
    for name in names:
        pkgutil.resolve_name(name if "." in name or inventory.stem != "python" else f"builtins.{name}")


def test_python_on_the_site_fits_its_box() -> None:
    """The docs session measures it in Chromium; this says so where there is none."""
    fences = (fence for page in SITE.rglob("*.md") for fence in PYTHON.findall(page.read_text(encoding="utf-8")))
    assert [] == [line for fence in fences for line in fence.splitlines() if len(line) > 112]


PYTHON = re.compile(r"^```python.*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
