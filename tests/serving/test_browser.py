"""The page in a real browser: no error, contrast, and every stop of the key Tab."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest

from tests.serving.browser import Browser, browser
from tests.serving.ward import configure, fill, serving

# Of every text the contrast to what is behind it.
# Source: Web Content Accessibility Guidelines 2.2, "relative luminance" and "contrast ratio".
CONTRAST = """
(() => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    if (!walker.currentNode.textContent.trim()) continue;
    const node = walker.currentNode.parentElement;
    const pair = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort();
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), node.outerHTML]);
  }
  return found;
})()
"""
STOPS = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')].map(shown)"
SHOWN = "const shown = node => node.tagName + ' ' + node.textContent.trim().slice(0, 40);"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    fill(tmp_path / "models")
    settings = {"reference_rows": 10, "window_rows": 10}
    with serving(configure(tmp_path, monitoring=settings)) as running, browser() as page:
        age = {"name": "age", "datatype": "FP64", "shape": [30], "data": [20] * 10 + [90] * 20}
        with httpx.Client(base_url=f"http://{running.rest}", trust_env=False) as client:
            client.post("/v2/models/age/infer", json={"inputs": [age]})
            client.post("/v2/models/age/infer", json={"inputs": []})
        page.open(f"http://{running.rest}/")
        assert page.run("document.title") == "Models served here"
        assert "drift of age" in page.run("document.body.innerText")
        check_contrast(page)
        check_stops(page)
        picture = base64.b64decode(page.call("Page.captureScreenshot")["data"])
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000
        (tmp_path / "page.png").write_bytes(picture)
        check_quiet(page, f"http://{running.rest}/")


def check_contrast(page: Browser) -> None:
    """AA: 4.5 to 1 for text of this size."""
    found = page.run(CONTRAST)
    assert len(found) > 50
    assert [one for one in found if one[0] < 4.5] == []


def check_stops(page: Browser) -> None:
    """Tab goes to everything that can be used, in the order of the page."""
    page.run(SHOWN)
    wanted = page.run(STOPS)
    assert len(wanted) >= 8
    seen = []
    for _ in wanted:
        page.tab()
        seen.append(page.run("shown(document.activeElement)"))
    assert seen == wanted
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def check_quiet(page: Browser, address: str) -> None:
    """No error on the console, and nothing asked of anybody but this page."""
    asked = []
    for event in page.events:
        method, params = event.get("method"), event.get("params", {})
        assert method != "Runtime.exceptionThrown", params
        assert method != "Log.entryAdded" or params["entry"]["level"] != "error", params
        assert method != "Runtime.consoleAPICalled" or params["type"] != "error", params
        if method == "Network.requestWillBeSent":
            asked.append(params["request"]["url"])
    assert [url for url in asked if not url.startswith(address)] == []
    assert address in asked
