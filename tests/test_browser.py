"""The built book in a real browser: what a reader meets on each page, in light and dark, at desk and phone.

The second half opens small faulty pages, and shows that each question finds the fault it is there for.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import (
    NO_CHROMIUM,
    Visit,
    find_chromium,
    formulas,
    images,
    in_the_dark,
    looked_through,
    served,
    sliders,
)
from test_pages import pages

pytestmark = [pytest.mark.browser]

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
NAMED = list(pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))
LABS = [name for name in NAMED if name.startswith("book/labs/")]
OTHERS = ["genindex", "search"]


def page_with(text: str) -> Path:
    """The first page of the built book whose source has a text, or skip the test."""
    for name in NAMED:
        path = HTML / f"{name}.html"
        if path.exists() and text in path.read_text(encoding="utf-8"):
            return path
    pytest.skip(f"no page of the built book has {text}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for the module. It ends with it: playwright keeps an event loop running meanwhile."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason='playwright is not installed: pip install -e ".[test]"'
    )
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(NO_CHROMIUM)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def book() -> Iterator[str]:
    """The address of the built book, served on this machine."""
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built: make book")
    with served(HTML) as address:
        yield address


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open pages, and close them after the test."""
    opened: list[Visit] = []

    def open_page(address: str, **options: Any) -> Visit:
        opened.append(Visit(browser, address, **options))
        return opened[-1]

    yield open_page
    for one in opened:
        one.close()


# ---------------------------------------------------------------- Every page


def neighbours(name: str, page: Any) -> list[str]:
    """Say which of the links to the previous and the next page leads elsewhere."""
    place = NAMED.index(name)
    due = {
        "a.left-prev": NAMED[place - 1] if place else None,
        "a.right-next": NAMED[place + 1] if place + 1 < len(NAMED) else None,
    }
    wrong = []
    for link, target in due.items():
        there = page.evaluate("link => document.querySelector(link)?.href ?? null", link)
        if (there is None) != (target is None) or (target and not there.endswith(f"/{target}.html")):
            wrong.append(f"{link} leads to {there}, expected {target}")
    return wrong


@pytest.mark.parametrize("name", NAMED + OTHERS)
def test_page(book, visit, name):
    """In light, as the reader's system asks for it, at a desk and on a phone; then in dark, by the switch."""
    opened = visit(f"{book}/{name}.html", system="light")
    order = neighbours(name, opened.page) if name in NAMED else []
    assert (opened.theme, order, looked_through(opened)) == ("light", [], {})
    assert in_the_dark(opened.page) == []


@pytest.mark.parametrize("name", [NAMED[0], LABS[-1], "search"])
def test_page_opened_in_the_dark(book, visit, name):
    """As the switch has stored it, whatever the system asks for."""
    opened = visit(f"{book}/{name}.html", system="light", mode="dark")
    assert (opened.theme, images(opened.page), opened.faults) == ("dark", [], [])


# ---------------------------------------------------------------- What a reader does


def test_pages_read_from_the_disk(visit, book):
    """Formulas and a slider, without a server."""
    for path in {page_with('class="math'), page_with('type="range"')}:
        opened = visit(path.as_uri())
        found = {"formulas": formulas(opened.page), "sliders": sliders(opened.page), "page": opened.faults}
        assert found == {"formulas": [], "sliders": [], "page": []}
        assert opened.page.locator("mjx-container").count() > 0


@pytest.mark.parametrize("where", ["server", "disk"])
def test_search_finds_a_word(visit, book, where):
    opened = visit(f"{book if where == 'server' else HTML.as_uri()}/search.html?q=Schmidt")
    opened.page.wait_for_selector("#search-results ul.search li a")
    hits = opened.page.locator("#search-results ul.search li a").evaluate_all("all => all.map(a => a.href)")
    assert any("/book/" in hit for hit in hits)
    assert opened.faults == []


def test_search_opens_by_the_keyboard(visit, book):
    page = visit(f"{book}/{NAMED[0]}.html").page
    page.keyboard.press("Control+k")
    page.wait_for_selector("#pst-search-dialog[open] input")
    page.keyboard.type("Schmidt")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=Schmidt*")
    page.wait_for_selector("#search-results ul.search li a")


def test_dark_follows_the_system_and_the_switch(visit, book):
    opened = visit(f"{book}/{NAMED[0]}.html", system="dark")
    page, theme = opened.page, "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{theme} === 'light'")
    modes = set()
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        modes.add(page.evaluate("localStorage.getItem('mode')"))
    assert modes == {"light", "dark", "auto"}
    while page.evaluate("localStorage.getItem('mode')") != "dark":
        page.locator(".theme-switch-button").first.click()
    page.goto(f"{book}/{NAMED[1]}.html")
    assert page.evaluate(theme) == "dark"
    assert opened.faults == []


@pytest.mark.parametrize("name", LABS)
def test_a_lab_can_be_downloaded(visit, book, name):
    page = visit(f"{book}/{name}.html").page
    addresses = page.evaluate(
        """() => ["p.lab-file a", "a.btn-download-source-button"]
            .map((link) => document.querySelector(link).href)"""
    )
    for address in addresses:
        answer = page.request.get(address)
        assert answer.ok
        notebook = json.loads(answer.body())
        assert notebook["nbformat"] == 4
        assert any(cell["id"] == "final-check" for cell in notebook["cells"])
    assert addresses[0].endswith(f"{name}.ipynb")


def test_code_is_copied(visit, book):
    page = visit(f"{book}/{LABS[0]}.html", permissions=["clipboard-read", "clipboard-write"]).page
    cells = page.locator("div.cell_input").count()
    assert cells > 0
    assert page.locator("div.cell_input button.copybtn").count() == cells
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert page.locator("div.cell_input button.copybtn:visible").count() == cells
    assert page.locator("div.cell_output button.copybtn").count() == 0, (
        "what a cell prints is not for copying"
    )
    first = page.locator("div.cell_input").first
    first.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == first.locator("pre").inner_text().strip()


def test_all_proofs_open_at_once_and_on_paper(visit, book):
    path = page_with('<details class="fold proof of-theorem')
    page = visit(f"{book}/{path.relative_to(HTML).as_posix()}").page
    opened = "document.querySelectorAll('details.of-theorem[open]').length"
    proofs = page.locator("details.of-theorem").count()
    assert page.evaluate(opened) == 0
    page.emulate_media(media="print")
    heights = page.locator("details.of-theorem > .fold-content").evaluate_all(
        "all => all.map(part => part.getBoundingClientRect().height)"
    )
    assert min(heights) > 20
    page.emulate_media(media="screen")
    if proofs > 1:
        page.locator("button.all-proofs").focus()
        page.keyboard.press("Enter")
        assert page.evaluate(opened) == proofs
        page.keyboard.press("Enter")
        assert page.evaluate(opened) == 0


def test_an_address_opens_the_fold_it_leads_to(visit, book):
    """A solution that another page refers to, or a formula inside a proof."""
    path = page_with('<details class="fold solution')
    address = f"{book}/{path.relative_to(HTML).as_posix()}"
    page = visit(address).page
    places = page.evaluate(
        "[...document.querySelectorAll('details.fold[id], details.fold [id]')].map(part => part.id)"
    )
    assert places
    page.goto(f"{address}#{places[-1]}")
    page.wait_for_function("id => document.getElementById(id).closest('details').open", arg=places[-1])


def test_the_book_is_set_in_its_own_typefaces(visit, book):
    if not importlib.util.find_spec("font_source_serif_pro"):
        pytest.skip('the typefaces are not installed: pip install -c constraints.txt -e ".[book]"')
    page = visit(f"{book}/{NAMED[0]}.html").page
    page.evaluate("document.fonts.ready.then(() => true)")
    loaded = page.evaluate("[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)")
    assert {"Source Serif", "Source Sans"} <= {family.strip('"') for family in loaded}


def test_no_page_has_the_state_of_live_widgets(book):
    """Where an explorer stands, the page shows its picture; live widgets need a kernel and a CDN."""
    for name in NAMED:
        source = (HTML / f"{name}.html").read_text(encoding="utf-8")
        assert not re.search(r"<script[^>]*(widget-view|embed-amd|require)", source), name


# ---------------------------------------------------------------- Small faulty pages


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A small page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><article><h1>A small page</h1>
%s
</article></main></body></html>"""

BAR = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='{}'/%3E"
MOVES = {
    "picture": "i.closest('div').querySelector('img').src = BAR.replace('{}', i.value);",
    "announced": "i.setAttribute('aria-valuetext', 'rank ' + i.value);",
    "written": "i.closest('div').querySelector('output').textContent = i.value;",
}


def slider(*left_out: str, more: str = "") -> str:
    """A slider over three pictures, in which something does not follow."""
    script = "".join(move for what, move in MOVES.items() if what not in left_out)
    return f"""<div><input type="range" aria-label="rank" min="1" max="3" value="1" aria-valuetext="rank 1"
      oninput="follow(this)" {more}><output>1</output><img alt="A bar" src="{BAR.format(1)}"></div>
      <script>const BAR = "{BAR}"; function follow(i) {{ {script} }}</script>"""


SOUND = slider() + (
    "<details><summary>Proof</summary><p id='a'>Because <code>$$</code> is a sign.</p></details>"
    "<div style='overflow-x: auto' tabindex='0'><div style='width: 900px'>wide, but in its place</div></div>"
)


@pytest.fixture
def small(visit, tmp_path) -> Callable[[str], Visit]:
    def open_small(body: str) -> Visit:
        (tmp_path / "page.html").write_text(PAGE % body, encoding="utf-8")
        return visit((tmp_path / "page.html").as_uri())

    return open_small


def test_a_sound_page_passes(small):
    assert looked_through(small(SOUND)) == {}


@pytest.mark.parametrize(
    ("where", "what", "body"),
    [
        ("page", "error on the console: lost", "<script>console.error('lost')</script>"),
        ("page", "error of a script: broken", "<script>throw new Error('broken')</script>"),
        (
            "page",
            "request to the outside: https://example.org/a.js",
            "<script src='https://example.org/a.js'></script>",
        ),
        ("page", "request to the outside: http://example.org/", "<img alt='a' src='http://example.org/'>"),
        ("page", "request failed: file:", "<script src='missing.js'></script>"),
        ("images", "not loaded: file:", "<img alt='A bar' src='missing.png'>"),
        ("images", "without description: data:", f'<img src="{BAR}">'),
        ("images", "without description: data:", f'<img alt=" " src="{BAR}">'),
        ("formulas", r"not set: so \(x\)", r"<p>so \(x\)</p>"),
        ("formulas", "not set: $$x$$", "<p>$$x$$</p>"),
        ("formulas", "not set: x", "<span class='math'>x</span>"),
        ("formulas", "refused by MathJax: no such", "<mjx-merror data-mjx-error='no such'></mjx-merror>"),
        ("identifiers", "stands twice: a", "<p id='a'>a</p><p id='a'>b</p>"),
        (
            "folds",
            "Enter does not open it: Proof",
            "<details><summary onkeydown='event.preventDefault()'>Proof</summary>a</details>",
        ),
        (
            "folds",
            "Enter does not open it",
            "<details onclick='event.preventDefault()'><summary>Proof</summary>a</details>",
        ),
        ("folds", "a fold without a title", "<details>a</details>"),
        ("sliders", "the picture does not follow the keys", slider("picture")),
        ("sliders", "the announced does not follow the keys", slider("announced")),
        ("sliders", "the number beside it does not follow", slider("written")),
        ("sliders", "the value does not follow the keys", slider(more="disabled")),
        (
            "sliders",
            "Home and End do not lead to the ends",
            slider(more="onkeydown='event.preventDefault()'"),
        ),
        (
            "sliders",
            "the picture does not come back with the keys",
            slider("picture") + "<script>let n = 2; const was = follow;"
            "follow = i => { was(i); i.closest('div').querySelector('img').src = BAR.replace('{}', n++) }"
            "</script>",
        ),
        (
            "sliders",
            "a picture that does not load",
            slider() + "<script>follow = i => { const m = i.closest('div')"
            ".querySelector('img'); m.src = 'data:,' + i.value; return m.decode().catch(() => 0); }</script>",
        ),
        ("accessibility", "color-contrast at", "<p style='color: #bbb; background: #fff'>pale</p>"),
        (
            "accessibility",
            "color-contrast at",
            "<pre><span>a</span><span>b</span><span style='color: #bbb'>pale</span></pre>",
        ),
        ("accessibility", "label at", "<input type='text'>"),
        ("accessibility", "label at", "<details><summary>Proof</summary><input type='text'></details>"),
        (
            "accessibility",
            "scrollable-region-focusable at",
            "<pre style='overflow: auto; width: 90px'>" + 60 * "x" + "</pre>",
        ),
        ("phone", "the page is", "<p style='width: 600px'>wide</p>"),
        ("desk", "fades, and does not go on: short", "<p class='goes-on'>short</p>"),
        ("phone", "P ends at", "<div style='overflow: hidden'><p style='width: 600px'>cut off</p></div>"),
    ],
)
def test_a_fault_is_found(small, where, what, body):
    found = looked_through(small(body))
    assert any(what in fault for fault in found.get(where, [])), found


def test_a_fault_in_the_dark_is_found(small):
    switch = """<button class="theme-switch-button" onclick="const d = document.documentElement.dataset;
      d.mode = d.theme = 'dark'">theme</button>
      <style>html[data-theme=dark] body { background: #111; color: %s }</style>"""
    assert in_the_dark(small(switch % "#eee").page) == []
    assert any("color-contrast at" in fault for fault in in_the_dark(small(switch % "#333").page))
    assert in_the_dark(small("<button class='theme-switch-button'>theme</button>").page)[0].startswith(
        "the theme is"
    )


def test_a_wrong_order_of_pages_is_found(small):
    page = small("<a class='left-prev' href='x.html'>x</a>").page
    assert len(neighbours(NAMED[0], page)) == 2
    assert len(neighbours(NAMED[-1], page)) == 1


def test_an_answer_of_an_error_is_found(visit, tmp_path):
    (tmp_path / "page.html").write_text(PAGE % "<script src='missing.js'></script>", encoding="utf-8")
    with served(tmp_path) as address:
        assert any("answered by 404" in fault for fault in visit(f"{address}/page.html").faults)


def test_chromium_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("NBSVD_CHROMIUM", "here")
    assert find_chromium() == "here"
    monkeypatch.delenv("NBSVD_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("browser.APPLICATIONS", ())
    assert find_chromium() is None
    (tmp_path / "chromium").touch(mode=0o755)
    assert find_chromium() == str(tmp_path / "chromium")
