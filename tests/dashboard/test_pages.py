"""The live pages: what is on them, for whom, and how they change."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from conftest import DESKTOP, PHONE

PAGES = {"overview": "", "workers": "workers", "requests": "requests", "errors": "errors", "playground": "playground"}
LIVE = [name for name in PAGES if name != "playground"]


def nothing_is_asked(page):
    """What was on its way may still come, and the browser gets the icon when it likes; after that, silence."""
    page.wait_for_timeout(1_000)
    asked = []
    page.on("request", lambda request: "/assets/" in request.url or asked.append(request.url))
    page.wait_for_timeout(5_000)
    assert asked == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_whole_and_accessible(open_page, pictures, name, size, scheme):
    page = open_page(PAGES[name], size, scheme)
    assert page.title().endswith("Vlinders")
    assert page.locator("h1").inner_text().lower() == name
    current = page.locator("nav[aria-label=Pages] [aria-current=page]")
    assert current.inner_text().lower() == name
    width = "phone" if size == PHONE else "desktop"
    page.screenshot(path=f"{pictures}/{name}-{width}-{scheme}.png", full_page=True)
    # the page itself never scrolls sideways; wide tables do so inside
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    found = results.response["violations"]
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found] == []


@pytest.mark.parametrize("name", LIVE)
def test_pages_are_read_without_javascript(open_page, name):
    page = open_page(PAGES[name], java_script_enabled=False)
    assert page.locator("h1").inner_text().lower() == name
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1
    assert not page.locator("#pause").is_visible()
    if name == "overview":
        assert page.locator(".plot svg[role=img]").count() == 6
        page.locator("#table-tokens summary").click()
        assert page.locator("#table-tokens tbody tr").count() >= 1


def test_the_playground_says_that_it_needs_javascript(open_page):
    page = open_page("playground", java_script_enabled=False)
    assert "needs JavaScript" in page.locator("main").inner_text()
    assert not page.locator("#ask").is_visible()


def test_plots_have_lines_words_and_tables(open_page):
    page = open_page("?range=5m")
    plots = page.locator(".plot")
    assert plots.count() == 6
    for idx in range(6):
        plot = plots.nth(idx)
        assert re.search(r"last 5 min$", plot.locator("svg > title").text_content())
        assert plot.locator("svg > desc").text_content().endswith(".")
        assert plot.locator("svg .grid").count() >= 2
    # these have values as soon as there is a sample, whatever the model does
    for plot in ["queue", "kv"]:
        assert page.locator(f"#plot-{plot} .line[d^=M]").count() >= 2
        assert "now" in page.locator(f"#desc-{plot}").text_content()
        assert re.search(r"\d", page.locator(f"#plot-{plot} .legend strong").first.inner_text())


def test_ranges_are_links(open_page):
    page = open_page()
    for words, query in [("5 min", "5m"), ("1 h", "1h"), ("15 min", "15m")]:
        page.locator("nav[aria-label='Range of the plots']").get_by_role("link", name=words, exact=True).click()
        page.wait_for_url(f"**range={query}*")
        assert page.locator("#plots").inner_text().startswith(f"Last {words} ")
        assert f"range={query}" in page.locator("main").get_attribute("data-fragment")


def swapped(page):
    """Wait until the content is another one."""
    before = page.locator("#as-of").inner_text()
    page.wait_for_function("before => document.getElementById('as-of').innerText !== before", arg=before)


def test_values_change_without_loading_the_page(open_page):
    page = open_page()
    page.evaluate("window.stays = true")
    swapped(page)
    assert page.evaluate("window.stays") is True
    assert page.locator("#connection").inner_text() == "Live"


def test_focus_scroll_and_opened_tables_stay(open_page):
    page = open_page(size=PHONE)
    page.locator("#table-kv summary").click()
    page.evaluate("document.querySelector('#table-prefix summary').focus()")
    page.evaluate("document.querySelector('.scroll').scrollLeft = 120; window.scrollTo(0, 500)")
    page.evaluate("window.node = document.activeElement; window.y = scrollY")
    swapped(page)
    swapped(page)
    assert page.evaluate("document.activeElement === window.node && window.node.isConnected")
    assert page.locator("#table-kv").get_attribute("open") is not None
    assert page.evaluate("document.querySelector('.scroll').scrollLeft") == 120
    assert page.evaluate("scrollY === window.y")


def test_a_lost_connection_is_said_and_found_again(open_page):
    page = open_page("workers")
    page.route("**/fragment/workers", lambda route: route.abort())
    page.wait_for_function("() => document.getElementById('connection').textContent.startsWith('Connection lost')")
    page.unroute("**/fragment/workers")
    page.wait_for_function("() => document.getElementById('connection').textContent === 'Live'")
    page.wrong[:] = [one for one in page.wrong if "ERR_FAILED" not in one]


def test_a_refusal_is_no_lost_connection(open_page):
    page = open_page("errors")
    heading = page.locator("h1").element_handle()
    page.route("**/fragment/errors", lambda route: route.fulfill(status=401, body="<h1>Sign in</h1>"))
    page.wait_for_function("() => document.getElementById('connection').textContent.includes('answered 401')")
    assert heading.inner_text() == "Errors", "what was there stays"
    page.wrong[:] = [one for one in page.wrong if "401" not in one]


def test_pausing_stops_asking(open_page):
    page = open_page("requests")
    page.locator("#pause").click()
    assert page.locator("#pause").get_attribute("aria-pressed") == "true"
    assert page.locator("#connection").inner_text() == "Paused"
    nothing_is_asked(page)
    page.locator("#pause").click()
    page.wait_for_function("() => document.getElementById('connection').textContent === 'Live'")
    page.wait_for_event("response")


def test_a_hidden_page_does_not_ask(open_page):
    page = open_page("requests")
    page.evaluate(
        """Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true });
        window.away = true; document.dispatchEvent(new Event('visibilitychange'))"""
    )
    nothing_is_asked(page)
    with page.expect_response("**/fragment/requests"):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")


def test_all_pages_are_reached_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for name in ["workers", "requests", "errors", "playground", "overview"]:
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText?.toLowerCase() ?? ''") == name:
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        page.wait_for_function("name => document.querySelector('h1')?.innerText.toLowerCase() === name", arg=name)


def test_the_theme_is_remembered(open_page):
    page = open_page(scheme="light")
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(back)
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: dark"
    dark = page.evaluate(back)
    assert dark != light
    page.reload()
    assert page.evaluate(back) == dark
    page.locator("#theme").click()
    assert page.evaluate(back) == light
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: system"


def test_programs_get_json(open_page, base):
    page = open_page()
    snapshot = page.request.get(base + "api/snapshot").json()
    assert {"role", "version", "models", "workers", "requests", "errors"} <= snapshot.keys()
    history = page.request.get(base + "api/history?range=5m").json()
    assert [model["name"] for model in history["models"]] == [model["name"] for model in snapshot["models"]]
    assert all(point["running"] is not None for model in history["models"] for point in model["points"])
