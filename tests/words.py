"""The words that this project does not use, with what it says instead, and where they are looked for.

docs/glossary.md is the law for words. Listed here is only what can be found without false alarms: "where" in the sense
of "if", for example, needs a reader.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .documents import ROOT

# A regular expression for a word or phrase, and what to write instead.
BANNED = {
    r"told|tells": "reported, says, returns",
    r"answer(?:s|ed|ing)?": "response, responds",
    r"anew": "start over",
    r"without a word|in silence": "silently",
    r"stays? away": "the server stops returning pages",
    r"honest(?:y|ly)?|dishonest": "correct, cannot guarantee that no row is lost or repeated",
    r"an?d it is no|says? no": "returned an error",
    r"can(?:not)? be meant|cannot be(?=[.,;:'\"]|$)": "invalid",
    r"that (?:is|are) none": "invalid",
    r"(?:is|are|was|were) whole": "complete; written atomically",
    r"faults? to order|orders? a fault": "fault injection",
    r"stands?|stood": "is, is in, follows",
    r"(?:of )?(?:ours|yours|theirs)": "custom, own",
    r"dice": "random number",
    r"roads?": "path; falls back to",
    r"verdicts?|deeds?": "decision; executes",
    r"so many (?:at|a|an)": "the limit's name",
    r"(?<=, )say(?=[,.;:)]|$)": "for example",
    r"nobody knows": "None on any mismatch",
    r"(?:is|are|was|were) (?:not )?to be": "must, can, cannot",
    r"as it should be": "valid",
    r"mend(?:s|ed|ing)?": "fix",
    r"ask(?:s|ed|ing)? ahead": "prefetch",
    r"for ever": "always, forever",
    r"this very": "this",
    r"strikes?|struck": "applies",
    r"doubles? (?:a|no|none|rows?)": "repeat",
    r"our notes": "docs/explanation/vendors.md, with the number",
    r"thereof|thereby|therein|whereupon|wherein|hereby": "plain words",
    r"another one now": "has changed",
}
PATTERN = re.compile("|".join(rf"(?<![\w-])(?:{each})(?![\w-])" for each in BANNED), re.IGNORECASE | re.MULTILINE)

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE = sorted(path for folder in ("distinct_async", "examples") for path in (ROOT / folder).rglob("*.py"))


def found_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and word of each banned word in a file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for match in PATTERN.finditer(line):
            yield number, match[0]
