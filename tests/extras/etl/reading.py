"""A report as its reader sees it: headings, sentences and tables."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The text of a report, and the tables by their section's number."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.html = path.read_text(encoding="utf-8")
        self.titles: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}  # by the title
        self.text = ""
        self.elements: list[str] = []
        self._open: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._open.append(tag)
        if tag == "h2":
            self.titles.append("")
        if tag == "table":
            self.tables[self.titles[-1]] = []
        if tag == "tr":
            self.tables[self.titles[-1]].append([])
        if tag in {"td", "th"}:
            self.tables[self.titles[-1]][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        if "svg" in self._open or tag == "style":
            return
        self.text += data
        if tag == "h2":
            self.titles[-1] += data
        if tag in {"td", "th"}:
            self.tables[self.titles[-1]][-1][-1] += data

    def table(self, *columns: str) -> list[list[str]]:
        """The rows of the table with these first columns."""
        (found,) = (rows[1:] for rows in self.tables.values() if rows[0][: len(columns)] == [*columns])
        return found
