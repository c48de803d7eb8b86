"""Each module imports only modules of the layers below it, and exactly those that are listed here.

A new import fails until it is listed in `FLOORS`, and so does a listed import that is not used.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import distinct_async

PACKAGE = Path(distinct_async.__file__).parent

# From the lowest layer up: a module imports only modules before it in this list, or in the same folder.
ORDER = [
    ".version",
    ".redaction",
    ".vendors",
    ".errors",
    ".files",
    ".notebook",
    ".models",
    ".sansio.matching",
    ".sansio.messages",
    ".sansio.dialect",
    ".sansio.retry",
    ".sansio.checkpoints",
    ".sansio.pages",
    ".sansio.drift",
    ".sansio.walk_state",
    ".config",
    ".shapes",
    ".structure",
    ".timers",
    ".session",
    ".core",
    ".engine",
    ".page",
    ".run",
    ".walk",
    ".endpoints",
    ".client",
    ".testing",
    ".",  # the public API: the modules after it use the library as users do
    ".lifetime",
    ".aiohttp_web",
    ".fastapi",
    ".etl",
    ".dlt",
    ".spark",
    ".pyspark_distinct",
    ".cli",
    ".__main__",
]

# What each module imports, of this package (with a dot) and of others; after the bar, what it needs for types only.
# Of the standard library only what touches the outside world: see SENSITIVE.
FLOORS = {
    ".errors": ".redaction attrs | .etl.results .sansio.pages",
    ".files": ".errors .vendors os secrets",
    ".models.impressions": ".models.wire attrs",
    ".models.metrics": ".models.wire .notebook attrs",
    ".models.wire": "attrs pydantic_core | pydantic",
    ".models": ".models.impressions .models.metrics .models.wire",
    ".sansio.matching": "attrs msgspec",
    ".sansio.messages": ".errors .sansio.matching .vendors attrs msgspec",
    ".sansio.dialect": ".errors .sansio.matching .sansio.messages .vendors msgspec",
    ".sansio.retry": ".errors .sansio.messages attrs",
    ".sansio.checkpoints": ".errors attrs msgspec",
    ".sansio.pages": ".sansio.checkpoints attrs",
    ".sansio.drift": ".sansio.pages attrs",
    ".sansio.walk_state": ".errors .sansio.checkpoints .sansio.drift .sansio.pages attrs",
    ".config": ".errors .sansio.retry .vendors attrs os urllib.request | aiohttp",
    ".shapes": ".models attrs msgspec",
    ".structure": ".errors .models .sansio.dialect .sansio.messages .sansio.pages .shapes attrs cattrs msgspec",
    ".timers": "asyncio attrs",
    ".session": ".config .errors .sansio.messages .timers .vendors .version aiohttp asyncio isal multidict os ssl yarl",
    ".core": ".config .errors .sansio.messages .sansio.retry .session .vendors asyncio attrs os",
    ".engine": ".config .core .errors .redaction .sansio.dialect .sansio.messages .sansio.retry asyncio attrs random",
    ".page": ".notebook .sansio.checkpoints .sansio.messages .sansio.pages attrs",
    ".run": (
        ".core .engine .errors .page .sansio.checkpoints .sansio.messages .sansio.pages .sansio.walk_state asyncio "
        "attrs"
    ),
    ".walk": (
        ".engine .errors .page .run .sansio.checkpoints .sansio.drift .sansio.messages .sansio.pages "
        ".sansio.walk_state attrs"
    ),
    ".endpoints.impressions": (
        ".core .engine .errors .models .sansio.matching .sansio.messages .sansio.pages .shapes .structure .walk "
        "asyncio attrs"
    ),
    ".endpoints.metrics": (
        ".engine .errors .models .sansio.matching .sansio.messages .sansio.pages .structure .walk attrs"
    ),
    ".cli.app": (
        ". .cli.console .cli.demo .cli.doctor .cli.exits .cli.jobs .cli.options .cli.reading .cli.serve .errors .etl "
        ".models .version attrs cyclopts rich"
    ),
    ".cli.console": ".cli.options attrs rich time",
    ".cli.demo": ". .cli.console .cli.exits .errors .etl .models .testing asyncio attrs http.client msgspec rich",
    ".cli.doctor": ". .cli.console .cli.exits .cli.options .cli.output .errors .session .vendors asyncio attrs",
    ".cli.exits": ".cli.console .errors asyncio cyclopts signal",
    ".cli.jobs": ".cli.console .cli.exits .cli.options .cli.output .errors .etl",
    ".cli.options": ". .errors .files .models attrs cyclopts os",
    ".cli.output": ". .cli.console .cli.options .errors .files attrs cyclopts msgspec os rich time",
    ".cli.reading": ". .cli.console .cli.exits .cli.options .cli.output .errors .models attrs cyclopts",
    ".cli.serve": ".cli.console .cli.exits .testing asyncio attrs concurrent cyclopts threading time | aiohttp",
    ".dlt": (
        ".client .config .errors .etl .etl.arrow .etl.destinations .etl.extras .etl.impressions .etl.options "
        ".etl.plans .etl.runner .etl.state .models dlt pyarrow"
    ),
    ".client": (
        ".config .core .endpoints.impressions .endpoints.metrics .engine .errors .sansio.messages .sansio.retry "
        ".vendors attrs | aiohttp"
    ),
    ".cli": ".cli.app .cli.console .cli.exits os",
    ".testing.data": "msgspec",
    ".testing.faults": ".testing.vendors asyncio attrs random socket",
    ".testing.plugin": ".testing pytest",
    ".testing.sample": "random",
    ".testing.scans": "attrs msgspec",
    ".testing.server": ".testing.faults .testing.vendors aiohttp asyncio attrs concurrent os random ssl",
    ".testing.vendors": ".testing.scans .testing.world attrs msgspec",
    ".testing.world": ".testing.data .testing.sample .testing.scans attrs msgspec random",
    ".testing": ".testing.contract .testing.faults .testing.scans .testing.server .testing.world",
    ".": (
        ".client .config .endpoints.impressions .endpoints.metrics .errors .models .sansio.messages .sansio.pages "
        ".sansio.retry .version .walk"
    ),
    ".__main__": ".cli",
    ".lifetime": ".client .vendors",
    ".aiohttp_web": ".client .lifetime .vendors aiohttp",
    ".fastapi": ".client .core .engine .errors .lifetime .models.wire .vendors .walk asyncio fastapi msgspec starlette",
    ".etl.arrow": ".etl.destinations .etl.plans .models msgspec pyarrow",
    ".etl.batches": (
        ".client .core .errors .etl.arrow .etl.extras .etl.jobs .etl.options .etl.plans .etl.results .etl.runner "
        ".etl.state .models asyncio concurrent os pyarrow threading"
    ),
    ".etl.destinations": ".etl.plans .etl.results .models .sansio.pages .walk attrs",
    ".etl.destinations.database": ".errors .files duckdb os pyarrow pytz time",
    ".etl.destinations.duckdb": (
        ".errors .etl.arrow .etl.destinations .etl.destinations.database .etl.plans .etl.results .etl.views "
        ".sansio.pages .version duckdb pyarrow"
    ),
    ".etl.destinations.files": (
        ".errors .etl.arrow .etl.destinations .etl.destinations.formats .etl.plans .etl.results .files .models "
        ".sansio.pages .version msgspec os pyarrow secrets"
    ),
    ".etl.destinations.formats": ".etl.arrow msgspec pyarrow",
    ".etl.destinations.impressions": ".etl.arrow .etl.destinations.database .etl.devices .etl.views .models pyarrow",
    ".etl.devices": "duckdb ua_parser",
    ".etl.exports": (
        ".client .errors .etl.destinations.files .etl.extras .etl.options .etl.results .etl.runner .files .models "
        "attrs os"
    ),
    ".etl.extras": ".errors",
    ".etl.impressions": (
        ".client .endpoints.impressions .errors .etl.destinations.database .etl.destinations.impressions .etl.extras "
        ".etl.runner .etl.views .files .sansio.messages attrs os time | concurrent"
    ),
    ".etl.jobs": (
        ".client .core .endpoints.metrics .errors .etl.destinations .etl.options .etl.plans .etl.results .models "
        ".sansio.pages .walk asyncio attrs time"
    ),
    ".etl.options": ".client .errors .etl.plans .etl.results .etl.state .models .sansio.messages .sansio.retry attrs",
    ".etl.plans": ".client .errors .models .sansio.messages .sansio.pages attrs",
    ".etl.reports.charts": "vl_convert",
    ".etl.reports.figures": ".errors .etl.devices .etl.views .files attrs duckdb",
    ".etl.reports.page": ".etl.reports.charts .etl.reports.figures .etl.reports.sections .version msgspec",
    ".etl.reports.sections": ".etl.reports.charts .etl.reports.figures attrs",
    ".etl.reports": (
        ".client .errors .etl.destinations.database .etl.extras .etl.impressions .etl.options .etl.reports.figures "
        ".etl.reports.page .etl.reports.sections .etl.results .etl.runner .etl.syncs .etl.views .files "
        ".sansio.messages attrs os"
    ),
    ".etl.results": ".errors .etl.plans attrs",
    ".etl.runner": (
        ".client .core .errors .etl.destinations .etl.jobs .etl.options .etl.plans .etl.results .sansio.retry asyncio "
        "attrs concurrent time"
    ),
    ".etl.state": ".errors .etl.destinations .etl.plans .sansio.pages msgspec",
    ".etl.syncs": (
        ".client .errors .etl.destinations.database .etl.destinations.duckdb .etl.extras .etl.jobs .etl.options "
        ".etl.results .etl.runner .etl.views .models attrs os"
    ),
    ".etl.views": ".errors asyncio duckdb",
    ".etl": ".etl.batches .etl.exports .etl.impressions .etl.plans .etl.reports .etl.results .etl.syncs",
    ".spark": (
        ".client .errors .etl .etl.arrow .etl.destinations .etl.extras .etl.options .etl.plans .etl.runner .etl.state "
        ".files .models .sansio.messages .sansio.pages asyncio attrs msgspec pyspark | pyarrow"
    ),
    ".pyspark_distinct": ".errors .spark",
    ".vendors": "attrs",
}

SENSITIVE = {
    *("asyncio", "concurrent", "contextvars", "multiprocessing", "signal", "subprocess", "threading"),
    *("ftplib", "http.client", "os", "random", "secrets", "socket", "ssl", "time", "urllib.request", "uuid"),
}
IMPURE = {"aiohttp", "cattrs", *SENSITIVE}


def sources() -> dict[str, ast.Module]:
    """Return every module of the package, parsed, by its name: ``.sansio.pages``."""
    plugin = find_spec("_distinct_async_pytest")  # there the wheel has it, see pyproject.toml
    assert plugin is not None, "what is installed is older than the source: install it again"
    assert plugin.origin is not None
    found = {".testing.plugin": ast.parse(Path(plugin.origin).read_text(encoding="utf-8"), plugin.origin)}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = "." + ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


SOURCES = sources()


def imports(node: ast.AST, *, types_only: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what is imported in `node`, at any depth, and whether for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), body=body, orelse=orelse):
                for statement in body:
                    yield from imports(ast.Module([statement], []), types_only=True)
                for statement in orelse:
                    yield from imports(ast.Module([statement], []), types_only=types_only)
            case ast.Import(names=names):
                yield from ((named(alias.name), types_only) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for alias in names:
                    whole = named(f"{module}.{alias.name}")
                    yield whole if whole in SOURCES or whole in SENSITIVE else named(module), types_only
            case ast.ImportFrom():
                pytest.fail("a relative import: name the module whole, as everywhere else")
            case _:
                yield from imports(child, types_only=types_only)


def named(module: str) -> str:
    """Name a module as this file does: ours by its path behind a dot, foreign ones by their distribution's root."""
    if module == "distinct_async" or module.startswith("distinct_async."):
        return "." + module.removeprefix("distinct_async").removeprefix(".")
    return module if module in SENSITIVE else module.partition(".")[0]


def row(tree: ast.Module) -> str:
    """Write what a module imports as `FLOORS` has it."""
    listed = {
        (name, types_only)
        for name, types_only in imports(tree)
        if name.startswith(".") or name in SENSITIVE or name not in sys.stdlib_module_names
    }
    at_run_time = sorted(name for name, types_only in listed if not types_only)
    for_types = sorted(name for name, types_only in listed if types_only and (name, False) not in listed)
    return " ".join([*at_run_time, *(["|", *for_types] if for_types else [])])


def floor(module: str) -> int:
    """Tell on which floor a module stands; a folder's modules stand where the folder does."""
    while module not in ORDER:
        module = module.rpartition(".")[0] or pytest.fail(f"{module} stands on no floor")
    return ORDER.index(module)


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield every syntax node of the package, with its place."""
    for module, tree in SOURCES.items():
        yield from ((f"{module}:{getattr(node, 'lineno', 0)}", node) for node in ast.walk(tree))


def test_each_module_imports_exactly_what_is_listed() -> None:
    imported = {module: text for module, tree in SOURCES.items() if (text := row(tree))}
    if "site-packages" in PACKAGE.parts:  # the wheel holds these beside the package
        imported |= {name: FLOORS[name] for name in (".testing.plugin", ".pyspark_distinct")}
    assert FLOORS == imported


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_the_floors_above_it(module: str) -> None:
    ours = {name for name, types_only in imports(SOURCES[module]) if name.startswith(".") and not types_only}
    if module.startswith(".testing"):
        assert [] == [name for name in ours if not name.startswith(".testing")], "it would share our mistakes"
    else:
        assert [] == [name for name in ours if floor(name) > floor(module)]


@pytest.mark.parametrize("module", [module for module in SOURCES if module.startswith(".sansio")])
def test_decisions_have_no_loop_socket_clock_dice_or_environment(module: str) -> None:
    assert set() == {name for name, _ in imports(SOURCES[module])} & IMPURE


def test_aiohttp_and_cattrs_have_one_user_each() -> None:
    users = {
        (name, module)
        for module, tree in SOURCES.items()
        for name, types_only in imports(tree)
        if name in {"aiohttp", "cattrs"} and not types_only and not module.startswith(".testing")
    }
    users.remove(("aiohttp", ".aiohttp_web"))  # whoever imports that runs aiohttp.web anyway
    assert {("aiohttp", ".session"), ("cattrs", ".structure")} == users


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        place.partition(":")[0]
        for place, node in nodes()
        if getattr(node, "attr", getattr(node, "name", None)) in {"environ", "environb", "getenv"}
    }
    assert {".config"} == readers


def test_only_these_read_the_clock_on_the_wall_which_may_jump() -> None:
    readers = {
        place.partition(":")[0]
        for place, node in nodes()
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
    }
    assert {
        ".engine",  # a Retry-After that is a date needs it
        ".etl.destinations.duckdb",  # a run, a manifest and a missing impression say when they were
        ".etl.destinations.files",
        ".etl.destinations.impressions",
    } == readers


def test_nobody_asks_for_package_metadata_which_a_frozen_application_does_not_have() -> None:
    names = {
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for _, node in nodes()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert set() == {name for name in names if name.startswith(("importlib.metadata", "importlib_metadata"))}


CONTAINERS = {"bytearray", "Counter", "defaultdict", "deque", "dict", "list", "set", "WeakKeyDictionary", "WeakSet"}
CHANGES = {"add", "append", "clear", "extend", "insert", "pop", "remove", "setdefault", "update", "discard", "popleft"}


def test_nothing_is_global() -> None:
    assert [] == [place for place, node in nodes() if isinstance(node, ast.Global)]


def test_no_module_keeps_anything_that_changes() -> None:
    """A container at module level is a constant: none is created empty, and nothing changes one."""
    changed = []
    for module, tree in SOURCES.items():
        kept = {}
        for node in tree.body:
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    kept[name] = value
        for name, value in kept.items():
            match value:
                case ast.Call(func=ast.Name(id=made) | ast.Attribute(attr=made), args=[]) if made in CONTAINERS:
                    changed.append(f"{module}: {name}")
                case ast.Dict(keys=[]) | ast.List(elts=[]):
                    changed.append(f"{module}: {name}")
        for inner in ast.walk(tree):
            match inner:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if attribute in CHANGES:
                    changed += [f"{module}: {name}.{attribute}()"] if name in kept else []
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name in kept:
                    changed.append(f"{module}: {name}[...]")
    assert [] == changed


def test_no_error_of_ours_is_swallowed() -> None:
    def catches_all(kind: ast.expr | None) -> bool:
        match kind:
            case ast.Tuple(elts=kinds):
                return any(map(catches_all, kinds))
            case ast.Name(id=name) | ast.Attribute(attr=name):
                return name in {"Exception", "BaseException"}
        return kind is None

    swallowing = [
        place.partition(":")[0]
        for place, node in nodes()
        if isinstance(node, ast.ExceptHandler) and catches_all(node.type) and not isinstance(node.body[-1], ast.Raise)
    ]
    # What the user's `on_attempt` raises is logged; what a thread raises is raised where its result is awaited
    assert [".engine", ".cli.serve"] == swallowing


def test_every_module_says_what_it_is() -> None:
    assert [] == [module for module, tree in SOURCES.items() if not ast.get_docstring(tree)]
    assert set() == {word for module in SOURCES for word in module.split(".")} & {"utils", "helpers", "common", "misc"}


def test_aiohttp_and_the_extras_are_loaded_only_when_used() -> None:
    program = "import sys, distinct_async; distinct_async.DistinctClient('key'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set() == {"aiohttp", "cyclopts", "rich", "pydantic", "fastapi", "pyarrow", "duckdb"} & {*done.stdout.split()}


SAME = {"FileFormat"}  # the command's is that of `etl`, which --help does not import


def test_no_two_types_have_one_name() -> None:
    names: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            defined = [node.name] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                defined = [name for name in [node.targets[0].id] if re.fullmatch(r"([A-Z][a-z]+)+", name)]
            for name in defined:
                names.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))

    assert [] == [name for name, places in names.items() if len(places) > 1 and name not in SAME]
