"""Load every page of the built site at every width in one headless Chromium, and name what does not fit.

Usage: ``python .ci/sweep.py docs/_build``. Without a Chromium it says so and checks nothing.
"""

import functools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import ClassVar

WIDTHS = range(360, 1501, 6)
WIDE = 1440  # from here on, Python code must fit its box; below, it may scroll within it
LEFT_OUT = ("_modules/", "404")  # source code; what has another base
LIMIT = 240  # seconds

# A frame's width is the viewport of the page in it. "Cut" is what lies outside and no box scrolls to.
HARNESS = """<!doctype html><body><script>
const cut = page => [...page.querySelectorAll("article *")].filter(each => {
  if (each.getBoundingClientRect().right <= page.documentElement.clientWidth + 1) return false;
  for (let box = each.parentElement; box; box = box.parentElement)
    if (/auto|scroll/.test(page.defaultView.getComputedStyle(box).overflowX)) return false;
  return each.checkVisibility();
}).map(each => each.tagName + " " + each.textContent.trim().slice(0, 40));
const scrolling = page => [...page.querySelectorAll(".highlight-python pre")]
  .filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.textContent.trim().slice(0, 40));
(async () => {
  const found = [];
  for (const name of PAGES) {
    const frame = document.createElement("iframe");
    frame.style.cssText = "border: 0; height: 900px; width: 1000px";
    const loaded = new Promise(done => { frame.onload = done; });
    frame.src = name;
    document.body.append(frame);
    await loaded;
    const page = frame.contentDocument;
    await page.fonts.ready;
    const wide = [];
    for (const width of WIDTHS) {
      frame.style.width = width + "px";
      if (page.documentElement.scrollWidth > width) wide.push(width);
      if (width === WIDTHS[0]) cut(page).forEach(what => found.push(`${name}: cut at ${width} px: ${what}`));
      if (width >= WIDE && width < WIDE + 6)
        scrolling(page).forEach(what => found.push(`${name}: code wider than its box at ${width} px: ${what}`));
    }
    if (wide.length) found.push(`${name}: scrolls sideways at ${wide.length} widths: ${wide.join(" ")}`);
    frame.remove();
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves the site and the harness, and takes what the harness found."""

    site: ClassVar[Path]
    found: ClassVar["Queue[list[str]]"] = Queue()

    def do_GET(self) -> None:
        """Serve a page of the site, or the harness."""
        if self.path != "/harness":
            super().do_GET()
            return
        found = (each.relative_to(self.site).as_posix() for each in self.site.rglob("*.html"))
        pages = sorted(f"/{each}" for each in found if not each.startswith(LEFT_OUT))
        text = HARNESS.replace("PAGES", json.dumps(pages)).replace("WIDTHS", json.dumps([*WIDTHS]))
        self._respond(text.replace("WIDE", str(WIDE)).encode())

    def do_POST(self) -> None:
        """Take what was found."""
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._respond(b"")

    def _respond(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def sweep(chromium: str, site: Path) -> list[str]:
    """Return what does not fit, one line each."""
    Handler.site = site
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--no-first-run"]
        url = f"http://127.0.0.1:{server.server_port}/harness"
        with subprocess.Popen(
            [chromium, *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as browser:
            try:
                return Handler.found.get(timeout=LIMIT)
            finally:
                browser.terminate()
                server.shutdown()


def main() -> int:
    """Sweep the site, and return the exit code."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("The widths of the pages are not checked: there is no Chromium.")
        return 0
    try:
        found = sweep(chromium, Path(sys.argv[1]).resolve())
    except Empty:
        found = [f"Chromium did not finish within {LIMIT} s"]
    print("\n".join(found) or f"Every page fits at {len(WIDTHS)} widths, {WIDTHS[0]} to {WIDTHS[-1]} px.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
