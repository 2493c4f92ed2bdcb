"""The page in a real browser: no error, contrast, and every stop of the key Tab."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest

from tests.serving.browser import Browser, browser
from tests.serving.test_reference import model, patients, table
from tests.serving.ward import PLAIN, add, configure, put, serving

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
    store = tmp_path / "models"
    table(store)
    model(store)
    add(store, "age", PLAIN, 1)
    for name in ("sepsis", "age"):
        put(store, name, 1)
    settings = {"reference_rows": 10, "window_rows": 400}
    models = [{"name": "sepsis", "reference": "table"}, {"name": "age"}]
    config = configure(tmp_path, models=models, monitoring=settings)
    with serving(config) as running, browser() as page:
        with httpx.Client(base_url=f"http://{running.rest}", trust_env=False) as client:
            ask(client)
        page.open(f"http://{running.rest}/")
        assert page.run("document.title") == "Models served here"
        text = page.run("document.body.innerText")
        assert "drift of age" in text
        assert "released table table/1" in text
        assert "smoker = yes" in text
        check_contrast(page)
        check_bars(page)
        check_stops(page)
        picture = base64.b64decode(
            page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        )
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000
        (tmp_path / "page.png").write_bytes(picture)
        check_quiet(page, f"http://{running.rest}/")


def ask(client: httpx.Client) -> None:
    """Rows of older patients than the table's, rows that are refused, and what came true."""
    rows = patients(300, 5, older=10.0)
    kinds = {"age": "FP64", "ward": "BYTES", "smoker": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [300], "data": list(rows[name])}
        for name, kind in kinds.items()
    ]
    assert client.post("/v2/models/sepsis/infer", json={"inputs": inputs}).status_code == 200
    age = {"name": "age", "datatype": "FP64", "shape": [30], "data": [20] * 10 + [90] * 20}
    assert client.post("/v2/models/age/infer", json={"inputs": [age]}).status_code == 200
    assert client.post("/v2/models/age/infer", json={"inputs": []}).status_code == 400
    told = {
        "probabilities": [[0.3, 0.7]] * 200,
        "labels": ["yes", "no"] * 100,
        "groups": {"smoker": ["yes", "no"] * 100},
    }
    assert client.post("/v2/models/sepsis/feedback", json=told).status_code == 200


def check_bars(page: Browser) -> None:
    """Every watched column has bars of some height, in colours that stand out from the page."""
    bars = page.run(
        "[...document.querySelectorAll('svg')].map(one => [one.getAttribute('aria-label'),"
        " [...one.querySelectorAll('rect')].filter(bar => bar.getBoundingClientRect().height > 4)"
        ".length, [...one.querySelectorAll('rect')].map(bar => getComputedStyle(bar).fill)])"
    )
    assert [name for name, *_ in bars] == [
        f"Distribution of {name}" for name in ("age", "ward", "smoker", "age")
    ]
    assert all(high >= 1 for _, high, _ in bars)
    colours = {colour for *_, found in bars for colour in found}
    # Both at least 3 to 1 on white.
    assert colours == {"rgb(75, 127, 174)", "rgb(27, 31, 36)"}


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
