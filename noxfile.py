"""Every check of this project, each in an environment of its own: ``nox -l`` lists them.

``nox`` alone is what to run before a commit. The interpreters are those of the classifiers in ``pyproject.toml``,
the tools are its dependency groups; neither is said twice.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)

nox.needs_version = ">=2025.10.14"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_venv = "yes"
# An interpreter that is not here is skipped, on CI too, and never downloaded.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"
os.environ["UV_PYTHON_DOWNLOADS"] = "never"

# asyncio's debug mode doubles the tests' time: what it can find, it finds in `tests` and `tests-all`.
WITHOUT_DEBUG = ("-o", "asyncio_debug=false")

# pyenv hides all interpreters but one unless PYENV_VERSION names them.
if pyenv := shutil.which("pyenv"):
    names = subprocess.run([pyenv, "versions", "--bare"], stdout=subprocess.PIPE, text=True, check=False).stdout  # noqa: S603
    os.environ["PYENV_VERSION"] = ":".join(name for name in names.split() if name.rpartition(".")[0] in PYTHONS)

# Extras of 600 MB, which only `tests-engines` installs.
ENGINES = {"dlt", "spark"}

# Most tests wait for sockets. `-- -n0` is one process, for a debugger.
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on this interpreter; words after ``--`` go to pytest."""
    session.install("-e", ".[cli]", *group("test"))
    session.run("pytest", *PARALLEL, *session.posargs)


@nox.session(name="tests-extras")
def tests_extras(session: nox.Session) -> None:
    """Run the tests of the extras, which the light ``tests`` leave out, and those of the examples."""
    session.install("-e", ".[arrow,cli,duckdb,fastapi,report]", *group("extras"))
    session.run("pytest", *PARALLEL, "tests/extras", "examples", *session.posargs)


@nox.session(name="tests-engines")
def tests_engines(session: nox.Session) -> None:
    """Run the tests of Spark, which needs Java, and of what else reads our data by its own engine."""
    session.install("-e", ".[arrow,cli,dlt,duckdb,spark]", *group("engines"))
    session.run("pytest", *WITHOUT_DEBUG, "tests/engines", *session.posargs)


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """Run the tests on every interpreter of the classifiers that is here."""
    tests(session)


@nox.session(name="tests-floor", python=PYTHONS[0])
def tests_floor(session: nox.Session) -> None:
    """Run the tests on the lowest versions that pyproject.toml declares."""
    project = PYPROJECT["project"]
    extras = [each for name, each in project["optional-dependencies"].items() if name not in ENGINES]
    declared = itertools.chain(project["dependencies"], *extras)
    lowest = [each.replace(">=", "==") for each in declared if not each.startswith(project["name"])]  # the extra `demo`
    unlocked = {"PIP_CONSTRAINT": "", "UV_CONSTRAINT": ""}  # CI's lock file has the highest versions
    session.install("-e", ".", *group("extras"), *lowest, env=unlocked)
    session.run("pytest", *PARALLEL, *WITHOUT_DEBUG, *session.posargs)


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build the wheel and run the tests on it, out of reach of the source tree."""
    with tempfile.TemporaryDirectory() as tmp:
        session.install("build")
        session.run("python", "-m", "build", "--wheel", "--outdir", tmp, silent=True)
        (built,) = Path(tmp).glob("*.whl")
        session.install(f"{built}[cli]", *group("test"))
        rest = shutil.copytree(ROOT, Path(tmp) / "rest", ignore=shutil.ignore_patterns(".*", "distinct_async"))
        with session.chdir(rest):
            where = session.run("python", "-c", "import distinct_async; print(distinct_async.__file__)", silent=True)
            if not isinstance(where, str) or "site-packages" not in where:
                session.error(f"not the wheel is tested, but {where}")
            session.run("pytest", *PARALLEL, *WITHOUT_DEBUG, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure what the tests reach: every branch of ``sansio``, and 95 % of everything."""
    session.install("-e", ".[arrow,cli,duckdb,fastapi,report]", *group("coverage"))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *WITHOUT_DEBUG, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--fail-under=95")
    session.run("coverage", "report", "--include=*/sansio/*", "--fail-under=100")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code with all rules of ruff and its formatter, and the workflows with zizmor."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--persona=pedantic", "--quiet", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """Check every type with mypy; the public API and the code in documents with basedpyright too, as editors do."""
    session.install("-e", ".[arrow,cli,duckdb,fastapi,report]", *group("types"))
    session.run("mypy", "distinct_async", "tests", "benchmarks", "examples", "noxfile.py", "hatch_build.py", ".ci")
    session.run("basedpyright")
    session.run("python", ".ci/verify_types.py")
    with tempfile.TemporaryDirectory() as tmp:
        session.run("python", "-m", "tests.notebooks", tmp)
        python = shutil.which("python", path=session.bin) or "python"
        session.run("basedpyright", "--project", tmp, "--pythonpath", python)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into ``docs/_build``, without a network or a warning, and load its pages at every width."""
    session.install("-e", ".[arrow,cli,duckdb,fastapi,report]", *group("docs"))
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build", *session.posargs)
    session.run("python", ".ci/sweep.py", "docs/_build")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the benchmarks: ratios, from one interleaved run; words after ``--`` go to them."""
    session.install("-e", ".", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Let random faults rain on a loaded client, for a minute or the seconds after ``--``: nothing may grow."""
    session.install("-e", ".")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def kill(session: nox.Session) -> None:
    """Kill an export and a sync 20 times each, or as often as the number after ``--`` says; not on CI."""
    session.install("-e", ".[arrow,duckdb]", *group("extras"))
    kills = session.posargs[0] if session.posargs else "20"
    session.run("pytest", *WITHOUT_DEBUG, "-n", "2", "tests/extras/etl/test_kill.py", env={"KILLS": kills})


@nox.session
def mutation(session: nox.Session) -> None:
    """Break ``sansio`` in every small way and see the tests notice; not on CI, it takes its time."""
    session.install("-e", ".[cli]", *group("mutation"))
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


@nox.session(name="release-check")
def release_check(session: nox.Session) -> None:
    """Check what a release needs; with a tag after ``--`` it must be complete, without one it is a rehearsal."""
    session.install("build", "twine")
    with tempfile.TemporaryDirectory() as tmp:
        session.run("python", "-m", "build", "--outdir", tmp, silent=True)
        session.run("twine", "check", "--strict", *map(str, Path(tmp).iterdir()))
        session.run("python", ".ci/release_check.py", tmp, *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Write the newest versions that fit together, on every interpreter and system, to ``.ci/constraints.txt``."""
    session.install("uv")
    groups = [f"--group={name}" for name in PYPROJECT["dependency-groups"]]
    words = ["--universal", f"--python-version={PYTHONS[0]}", "--all-extras", "--no-annotate", "--upgrade", "--quiet"]
    command = "--custom-compile-command=nox -s lock"
    session.run("uv", "pip", "compile", *words, *groups, command, "-o", ".ci/constraints.txt", "pyproject.toml")


@nox.session
def openapi(session: nox.Session) -> None:
    """Lint the vendors' OpenAPI document with Redocly, and read the mock that Prism makes of it; needs npx."""
    if not shutil.which("npx"):
        session.skip("npx is not installed")
    session.run("npx", "--yes", "@redocly/cli@2.77.0", "lint", "distinct_async/testing/openapi.json", external=True)
    session.install("-e", ".", *group("test"))
    session.run("pytest", "-n0", "tests/prism.py", *session.posargs)
