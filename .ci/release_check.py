"""Check everything that a release needs: ``nox -s release-check`` runs it.

Without a tag it is a rehearsal: what only a release can have (the changelog's section, the tag, the address of the
repository) is listed and does not fail.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
# What the wheel has at its top level, as `force-include` in pyproject.toml says
MOVED = {
    "distinct_async/testing/plugin.py": "_distinct_async_pytest.py",
    "distinct_async/pyspark_distinct.py": "pyspark_distinct.py",
}


class Checks:
    """What was found, printed line by line."""

    def __init__(self) -> None:
        """Start without failures."""
        self.failed = 0

    def __call__(self, right: object, what: str, *, only_released: bool = False) -> None:
        """Print whether a check passed; those that only a release can pass do not count in a rehearsal."""
        print("ok     " if right else "to do  " if only_released else "FAILED ", what)
        self.failed += not right and not only_released


def check(tag: str | None, dist: Path) -> int:
    """Print each check of the files in ``dist``, and return how many failed."""
    checks, rehearsal = Checks(), tag is None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        info = next(name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(file.read(info))
    with tarfile.open(sdist) as file:
        in_sdist = {str(PurePosixPath(*PurePosixPath(each.name).parts[1:])) for each in file if each.isfile()}
    version = metadata["version"]
    tracked = {*git("ls-files").splitlines()}

    checks(re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", version), f"version {version} is like 1.2.3")
    checks(tag == f"v{version}", f"the tag is v{version}", only_released=rehearsal)
    tagged = tag and git("rev-list", "-n1", tag) == git("rev-list", "-n1", "HEAD")
    checks(tagged, "the tag is on this commit", only_released=rehearsal)
    checks(not git("status", "--porcelain"), "everything is committed", only_released=rehearsal)
    addresses = project["urls"].values()
    checks(not any("OWNER" in each for each in addresses), "[project.urls] has no placeholder", only_released=rehearsal)

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    sections = {title.partition(" - ")[0]: (title, text.strip()) for title, text in parts}
    title, text = sections.get(f"[{version}]", ("", ""))
    dated = re.search(r" - \d{4}-\d\d-\d\d$", title) and text
    checks(dated, f"CHANGELOG.md has a section [{version}] with its date", only_released=rehearsal)
    checks(
        sections.get("[Unreleased]", ("", "?"))[1] == "", "its section [Unreleased] is empty", only_released=rehearsal
    )

    package = {MOVED.get(name, name) for name in tracked if name.startswith("distinct_async/")}
    in_wheel = {name for name in names if ".dist-info/" not in name}
    same(checks, "the wheel", package, in_wheel)
    same(checks, "the sdist", {name for name in tracked if not name.startswith(".ci/")} | {"PKG-INFO"}, in_sdist)
    checks("distinct_async/py.typed" in names, "the wheel is typed")
    checks(any(name.endswith("/licenses/LICENSE") for name in names), "the wheel has the license")
    check_metadata(checks, metadata, project, rehearsal=rehearsal)
    check_sources(checks, tracked)
    return checks.failed


def git(*words: str) -> str:
    """Return the output of a git command."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def same(checks: Checks, what: str, wanted: set[str], found: set[str]) -> None:
    """Check that a distribution has the tracked files, all and only them."""
    difference = sorted(wanted ^ found)
    checks(not difference, f"{what} has {len(found)} files" + (f", not these: {difference}" if difference else ""))


def check_metadata(checks: Checks, metadata: Message, project: dict[str, object], *, rehearsal: bool) -> None:
    """Check the wheel's metadata against ``pyproject.toml``."""
    for field in ("name", "requires-python"):
        checks(metadata[field] == project[field], f"the metadata has {field} {metadata[field]}")
    checks(metadata.get_all("Classifier") == project["classifiers"], "the metadata has the classifiers")
    readme = str(metadata.get_payload())
    relative = re.findall(r"\]\((?!https?://|#)([^)]+)\)", readme)
    checks(len(readme) > 1_000, "the metadata has the README")
    checks("not on PyPI yet" not in readme, "the README installs from PyPI", only_released=rehearsal)
    checks(not relative, f"the README's links are absolute {relative or ''}")


def check_sources(checks: Checks, tracked: set[str]) -> None:
    """Check that what is said twice is the same, and that the repository's address is said once."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for tool in groups["lint"]:
        name, _, version = tool.partition("==")
        checks(f"{name}-pre-commit\n    rev: v{version}\n" in hooks, f"pre-commit runs {tool}")
    others = tracked - {"pyproject.toml", ".ci/release_check.py"}
    named = [name for name in others if b"/OWNER/" in (ROOT / name).read_bytes()]
    checks(not named, f"the placeholder is in pyproject.toml only {named or ''}")


def main() -> None:
    """Check the distributions in a folder, for a tag if there is one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dist", type=Path)
    parser.add_argument("tag", nargs="?")
    arguments = parser.parse_args()
    sys.exit(check(arguments.tag, arguments.dist) > 0)


if __name__ == "__main__":
    main()
