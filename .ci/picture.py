"""Draw a section of the demo: ``distinct-async demo | python .ci/picture.py > docs/demo.svg``."""

import io
import re
import sys

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be loaded from another host


def main() -> None:
    """Read the demo's output, and print the picture of one section."""
    _, _, rest = sys.stdin.read().partition("A server that misbehaves")
    section = re.split(r"\n(?=\S)", f"A server that misbehaves{rest}", maxsplit=1)[0].rstrip()
    console = Console(record=True, width=60, file=io.StringIO())
    text = Text(section)
    text.highlight_regex(r"(?m)^\S.*$", "bold")
    text.highlight_regex(r"(?m)^  (distinct-async, killed.*|A naive.*)$", "bold green")
    text.highlight_regex(r"(?m)^  a loop .*$", "red")
    text.highlight_regex(r"(?m)^ +(distinct-async visits|--checkpoint).*$", "cyan")
    console.print(text)
    svg = console.export_svg(title="distinct-async demo", theme=MONOKAI, unique_id="demo")
    sys.stdout.write(FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas") + "\n")


if __name__ == "__main__":
    main()
