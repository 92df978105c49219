"""What tests/test_browser.py asks of a page that is open in Chromium. Each function returns what is wrong.

Chromium is driven by playwright, which brings its own driver and is given the Chromium of the system: nothing
is downloaded. Chromium's own path may be named by the environment variable ``NBSVD_CHROMIUM``.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
NO_CHROMIUM = (
    "there is no Chromium to open the pages in: install it (Debian: apt-get install chromium), "
    "or name one by NBSVD_CHROMIUM"
)
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
OUTSIDE = re.compile(r"^(?!https?://127\.0\.0\.1[:/])(https?|wss?):")
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, or ``None``."""
    if named := os.environ.get("NBSVD_CHROMIUM"):
        return named
    found = [path for name in NAMES if (path := shutil.which(name))]
    return next(iter(found + [path for path in APPLICATIONS if Path(path).exists()]), None)


class Quiet(SimpleHTTPRequestHandler):
    """A server that writes no log."""

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Visit:
    """A page that was opened, and all that it complained of or asked for on the way."""

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        size: dict[str, int] = DESK,
        system: str = "light",
        mode: str | None = None,
        **options: Any,
    ) -> None:
        self.faults: list[str] = []
        self.context = browser.new_context(
            viewport=size, color_scheme=system, reduced_motion="reduce", **options
        )
        if mode is not None:  # as the theme's own switch stores it
            self.context.add_init_script(f"localStorage.setItem('mode', '{mode}')")
        self.context.route(OUTSIDE, self._outside)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.faults.append(f"error of a script: {error}"))
        self.page.on("console", self._said)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)
        self.page.goto(address)
        self.page.evaluate("window.MathJax?.startup?.promise.then(() => true)")

    def _outside(self, route: Any) -> None:
        self.faults.append(f"request to the outside: {route.request.url}")
        route.abort()

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"error on the console: {message.text}")

    def _failed(self, request: Any) -> None:
        if not OUTSIDE.match(request.url):
            self.faults.append(f"request failed: {request.url}: {request.failure}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"request answered by {response.status}: {response.url}")

    @property
    def theme(self) -> str:
        return self.page.evaluate("document.documentElement.dataset.theme")

    def close(self) -> None:
        self.context.close()

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()


def formulas(page: Any) -> list[str]:
    """Say what MathJax has left as text, or could not set."""
    return page.evaluate(
        r"""() => {
        const wrong = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode()); ) {
            const inside = node.parentElement.closest("pre, code, script, style, noscript, mjx-container");
            if (!inside && /\\\(|\\\)|\\\[|\\\]|\$\$|\\begin\{/.test(node.data))
                wrong.push("not set: " + node.data.trim().slice(0, 80));
        }
        const short = (text) => text.trim().slice(0, 80);
        for (const part of document.querySelectorAll(".math"))
            if (!part.querySelector("mjx-container")) wrong.push("not set: " + short(part.textContent));
        for (const part of document.querySelectorAll("mjx-merror, merror, [data-mjx-error]"))
            wrong.push("refused by MathJax: " + short(part.dataset.mjxError || part.textContent));
        return [...new Set(wrong)];
    }"""
    )


def images(page: Any) -> list[str]:
    """Say which images are not there, or are not described."""
    return page.evaluate(
        """async () => {
        const wrong = [];
        for (const img of document.images) {
            const name = img.src.slice(0, 100);
            await img.decode().catch(() => {});
            if (!img.complete || !img.naturalWidth) wrong.push("not loaded: " + name);
            if (!(img.getAttribute("alt") || "").trim()) wrong.push("without description: " + name);
        }
        return wrong;
    }"""
    )


def identifiers(page: Any) -> list[str]:
    """Say which identifiers stand twice, so that a link to them leads nowhere in particular."""
    return page.evaluate(
        """() => {
        const all = [...document.querySelectorAll("[id]")].filter((e) => !e.closest("svg, mjx-container"));
        const ids = all.map((e) => e.id);
        return [...new Set(ids.filter((id, i) => ids.indexOf(id) !== i))].map((id) => "stands twice: " + id);
    }"""
    )


def width(page: Any) -> list[str]:
    """Say what is wider than the window and does not scroll in its own place, or fades as if it did."""
    return page.evaluate(
        """() => {
        const wrong = [];
        const root = document.scrollingElement;
        const scrolls = (part) => part && ["auto", "scroll"].includes(getComputedStyle(part).overflowX);
        if (root.scrollWidth > innerWidth)
            wrong.push(`the page is ${root.scrollWidth} wide, the window ${innerWidth}`);
        const column = document.querySelector(".bd-article-container");
        if (scrolls(column) && column.scrollWidth > column.clientWidth + 1)
            wrong.push("the column of the text scrolls sideways");
        for (const part of document.querySelectorAll("article *")) {
            const box = part.getBoundingClientRect();
            if (box.width === 0 || box.right <= innerWidth + 1 || !part.checkVisibility()) continue;
            if (part.closest("mjx-assistive-mml")) continue;  // read out, never seen
            let around = part.parentElement;
            while (around && (around === column || !scrolls(around))) around = around.parentElement;
            const words = part.textContent.slice(0, 40);
            if (!around) wrong.push(`${part.tagName} ends at ${Math.round(box.right)}: ${words}`);
        }
        for (const part of document.querySelectorAll(".goes-on"))
            if (part.scrollWidth <= part.clientWidth)
                wrong.push("fades, and does not go on: " + part.textContent.trim().slice(0, 40));
        return wrong.slice(0, 5);
    }"""
    )


def folds(page: Any) -> list[str]:
    """Open all that folds, each by the keyboard, and say what does not open, close or say what it is."""
    wrong = []
    for number, fold in enumerate(page.query_selector_all("article details")):
        title = fold.query_selector(":scope > summary")
        words = title.inner_text().strip() if title else ""
        if not words:
            wrong.append("a fold without a title")
            continue
        state = "fold => [fold.open, document.activeElement === fold.querySelector(':scope > summary')]"
        keys = ["Enter", "Space", "Enter"] if number < 2 else ["Enter"]  # the rest only opens, to save time
        fold.evaluate("fold => { fold.open = false; }")
        title.focus()
        for opens, key in zip([True, False, True], keys, strict=False):
            page.keyboard.press(key)
            if fold.evaluate(state) != [opens, True]:
                wrong.append(f"{key} does not {'open' if opens else 'close'} it: {words}")
        fold.evaluate("fold => { fold.open = true; }")
    return wrong


SLIDER = """input => {
    let around = input.parentElement;
    while (around && !around.querySelector("img, svg, canvas")) around = around.parentElement;
    const picture = around && around.querySelector("img, svg, canvas");
    return {
        value: input.value,
        announced: input.getAttribute("aria-valuetext") || input.value,
        written: around ? [...around.querySelectorAll("output")].map((o) => o.textContent).join() : "",
        picture: picture ? (picture.src || picture.outerHTML) : "",
        alt: picture ? picture.alt || "" : "",
        loaded: !picture || picture.tagName !== "IMG" || picture.naturalWidth > 0,
        ends: [input.min, input.max],
    };
}"""


def sliders(page: Any) -> list[str]:
    """Move each slider by the keyboard, and say where picture, value and announcement do not follow."""
    wrong = []
    for number, slider in enumerate(page.query_selector_all("input[type=range]"), 1):
        name = f"slider {number} ({slider.get_attribute('aria-label')})"
        slider.focus()
        seen = {}
        for step, key in enumerate(["Home", "ArrowRight", "ArrowLeft", "End", "Home"]):
            page.keyboard.press(key)
            seen[step] = slider.evaluate(SLIDER)
            if not seen[step]["loaded"]:
                wrong.append(f"{name}: {key} shows a picture that does not load")
        first, second, back, last, again = seen.values()
        if first["value"] != first["ends"][0] or last["value"] != last["ends"][1]:
            wrong.append(f"{name}: Home and End do not lead to the ends")
        for what in ("value", "announced", "picture"):
            if len({first[what], second[what], last[what]}) < (2 if second["value"] == last["value"] else 3):
                wrong.append(f"{name}: the {what} does not follow the keys")
            if not first[what] == back[what] == again[what]:
                wrong.append(f"{name}: the {what} does not come back with the keys")
        if first["written"] and first["written"] == second["written"]:
            wrong.append(f"{name}: the number beside it does not follow")
    return wrong


# Words of code of the same kind and on the same ground as one before lose their element: a lab has thousands,
# and axe measures the contrast of each.
ONCE = """() => {
    const clear = "rgba(0, 0, 0, 0)", seen = new Set();
    const ground = (part) => {
        while (part && getComputedStyle(part).backgroundColor === clear) part = part.parentElement;
        return part ? getComputedStyle(part).backgroundColor : clear;
    };
    for (const part of [...document.querySelectorAll(":is(pre, dt.sig, code) span")].reverse()) {
        if (part.childElementCount) continue;
        const kind = [part.className, part.style.cssText, part.parentElement.className, ground(part)].join();
        if (seen.has(kind)) part.replaceWith(part.textContent);
        seen.add(kind);
    }
}"""
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


def accessibility(page: Any, rules: dict[str, Any] = RULES) -> list[str]:
    """Say what axe finds against WCAG 2.1, levels A and AA. It leaves the page with plainer code."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(ONCE)
    found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]}).response["violations"]
    return [
        f"{violation['id']} at {node['target']}: {' '.join(node['failureSummary'].split())[:250]}"
        for violation in found
        for node in violation["nodes"][:5]
    ]


def settled(page: Any) -> None:
    """Wait until the page's scripts have answered to a change of its size or of what is open."""
    page.evaluate(
        "() => document.fonts.ready.then(() => new Promise("
        "done => requestAnimationFrame(() => requestAnimationFrame(done))))"
    )


def looked_through(visit: Visit) -> dict[str, list[str]]:
    """Ask all of it."""
    page = visit.page
    asked = {
        "formulas": formulas,
        "images": images,
        "identifiers": identifiers,
        "sliders": sliders,
        "folds": folds,  # which leaves them open
    }
    found = {what: ask(page) for what, ask in asked.items()}
    settled(page)
    found["desk"] = width(page)
    page.set_viewport_size(PHONE)
    settled(page)
    found["phone"] = width(page)
    page.set_viewport_size(DESK)
    settled(page)
    found["page"] = list(visit.faults)  # axe comes later: it asks for style sheets that are not there
    found["accessibility"] = accessibility(page)
    return {what: wrong for what, wrong in found.items() if wrong}


def in_the_dark(page: Any) -> list[str]:
    """Turn the theme's own switch to dark, and say what is wrong then with the colours."""
    for _ in range(3):
        if page.evaluate("document.documentElement.dataset.mode") == "dark":
            break
        page.locator(".theme-switch-button").first.click()
    settled(page)
    theme = page.evaluate("document.documentElement.dataset.theme")
    return ([] if theme == "dark" else [f"the theme is {theme}"]) + accessibility(page, COLOURS)
