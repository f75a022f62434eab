"""A browser for each test, which watches for errors and for requests that go elsewhere."""

import os
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="session")
def base():
    return os.environ["VLINDERS_DASHBOARD_URL"]


@pytest.fixture(scope="session")
def key():
    return os.environ["VLINDERS_DASHBOARD_KEY"]


@pytest.fixture(scope="session")
def pictures():
    return os.environ["VLINDERS_DASHBOARD_PICTURES"]


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["VLINDERS_DASHBOARD_CHROMIUM"], args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, base, key):
    """Open a page of the dashboard; at the end nothing may have gone wrong in any of them."""
    contexts = []
    wrong = []
    origin = urlsplit(base)[:2]

    def asked(request):
        if request.url.startswith("data:"):
            return
        if urlsplit(request.url)[:2] != origin:
            wrong.append(f"request to {request.url}")

    def said(message):
        if message.type in ("error", "warning"):
            wrong.append(f"{message.type}: {message.text}")

    def open_it(path="", size=DESKTOP, scheme="light", **options):
        if key:
            # As typed into the question of the browser; sent only if the server asks.
            options.setdefault("http_credentials", {"username": "dashboard", "password": key})
        context = browser.new_context(viewport=size, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
        page.on("request", asked)
        page.wrong = wrong
        page.goto(base + path)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []
