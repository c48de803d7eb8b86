"""A report in headless Chromium, whose every request goes to a proxy that counts it."""

import asyncio
import html
import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distinct_async import DistinctClient, etl
from distinct_async.etl.reports.charts import DARK_COLOURS
from distinct_async.testing import FakeServer, World

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (400, 1400)
# A frame's width is the viewport of the page in it.
HARNESS = """<!doctype html><body><script>
const measure = async width => {
  const frame = document.createElement("iframe");
  frame.style.cssText = `border: 0; height: 900px; width: ${width}px`;
  const loaded = new Promise(done => { frame.onload = done; });
  frame.src = "report.html";
  document.body.append(frame);
  await loaded;
  await new Promise(done => setTimeout(done, 3000));
  const page = frame.contentDocument, root = page.documentElement, style = frame.contentWindow.getComputedStyle;
  page.querySelectorAll("details").forEach(each => { each.open = true; });
  const box = each => each.getBoundingClientRect();
  return {
    scroll: Math.max(root.scrollWidth, page.body.scrollWidth) - root.clientWidth,
    charts: [...page.querySelectorAll("section svg")].map(each => [box(each).width, box(each).height]),
    marks: [...page.querySelectorAll("section svg")].map(each => each.querySelectorAll("path,rect,text").length),
    outside: [...page.querySelectorAll("h1,h2,p,summary,svg,svg text")]
      .filter(each => box(each).right > root.clientWidth + 1 || box(each).left < -1).map(each => each.textContent),
    colours: [...new Set([...page.querySelectorAll("svg [fill],svg [stroke]")].flatMap(each =>
      [style(each).fill, style(each).stroke]))],
    drawn: page.querySelectorAll("figure.vega-embed").length,
    paper: style(page.body).backgroundColor,
  };
};
(async () => {
  const found = {};
  for (const width of WIDTHS) found[width] = await measure(width);
  const output = document.createElement("pre");
  output.textContent = JSON.stringify(found);
  document.body.replaceChildren(output);
})();
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


class Proxy(ThreadingHTTPServer):
    """What Chromium sends every request to, wherever it is for."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:  # the name of the standard library
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((body or "").encode())

    def do_CONNECT(self) -> None:  # as above
        self.server.requests.append(self.path)
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


def opened(report: str, folder: Path, *options: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """What a browser measures at each width, what it requested, and what is in its console."""
    assert CHROMIUM is not None
    harness = HARNESS.replace("WIDTHS", json.dumps(WIDTHS))
    with Proxy({"http://page.test/": harness, "http://page.test/report.html": report}) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        quiet = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
        words = (
            *(CHROMIUM, "--headless=new", *quiet, f"--user-data-dir={folder}", "--enable-logging=stderr"),
            *(f"--proxy-server=http://127.0.0.1:{proxy.server_port}", "--proxy-bypass-list=<-loopback>"),
            *("--virtual-time-budget=20000", *options, "--dump-dom", "http://page.test/"),
        )
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=90)
        proxy.shutdown()
    found = re.search(r"<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(found[1])), proxy.requests, console


@pytest.mark.timeout(240)  # Chromium starts three times
async def test_a_browser_requests_nothing_more_and_shows_every_chart_without_scrolling(
    client: DistinctClient, fake: FakeServer, tmp_path: Path
) -> None:
    fake.world = World.sample(touchpoints=7, scans=2000, users=150)
    fake.world.add_touchpoint("tp-long", "A name without any space".replace(" ", "_") * 9)
    for user in range(9):
        fake.world.add_scan("tp-long", f"user-{user}", "2026-06-02T10:00:00Z")
    file = tmp_path / "report.html"
    await etl.report(client, "exp-1", file)
    text = await asyncio.to_thread(file.read_text, encoding="utf-8")

    await etl.report(client, "exp-1", file, interactive=True)
    interactive = await asyncio.to_thread(file.read_text, encoding="utf-8")
    for theme, paper, page in (
        ("", "rgb(255, 255, 255)", text),
        ("--blink-settings=preferredColorScheme=0", "rgb(18, 23, 30)", text),
        ("--lang=en", "rgb(255, 255, 255)", interactive),
    ):
        options = (theme,) if theme else ()
        found, requests, console = await asyncio.to_thread(opened, page, tmp_path / f"profile{theme[:5]}", *options)
        ours = {f"http://page.test/{name}" for name in ("", "report.html", "favicon.ico")}  # of the frame around it
        assert ([], set()) == (console, {each for each in requests if "page.test" in each} - ours)
        assert [] == [each for each in requests if "page.test" not in each and not re.search("google|gvt1", each)]
        for width in map(str, WIDTHS):
            assert (0, []) == (found[width]["scroll"], found[width]["outside"])
            assert 11 == len(found[width]["charts"])
            assert all(each[0] > 200 and each[1] > 40 for each in found[width]["charts"])
            assert all(each > 5 for each in found[width]["marks"])
            assert paper == found[width]["paper"]
            assert (11 if page is interactive else 0) == found[width]["drawn"]  # by the script
        if "Scheme" in theme:  # no colour of the light theme is left
            light = {f"rgb({int(one[1:3], 16)}, {int(one[3:5], 16)}, {int(one[5:], 16)})" for one in DARK_COLOURS}
            dark = {
                f"rgb({int(one[1:3], 16)}, {int(one[3:5], 16)}, {int(one[5:], 16)})" for one in DARK_COLOURS.values()
            }
            assert set() == (light - dark) & {*found["1400"]["colours"]}
