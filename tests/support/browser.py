"""A real browser, to look at the pages that an operator looks at."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from demo.servers import PrefectServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
PAGE_SECONDS = 30
OPTIONS = ("--no-sandbox", "--disable-quic")
WIDTH, HEIGHT = 1300, 1400


def browser_or_skip() -> str:
    """Return the path of a browser.

    Skips the test where there is none, but never in CI.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium, and tests must not skip in CI")
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    return found


@contextmanager
def browser_page(server: PrefectServer | None = None, *options: str) -> "Iterator[Page]":
    """Yield an empty page of a browser, logged in to a server's UI when one is given."""
    path = browser_or_skip()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests do without

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*OPTIONS, *options])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PAGE_SECONDS * 1000)
        if server is not None:
            login = base64.b64encode(server.login.encode()).decode()
            page.add_init_script(f"localStorage.setItem('prefect-password', '{login}')")
        yield page
        browser.close()


def page_content(server: PrefectServer, path: str, until: str) -> str:
    """Return a page of a server's UI, once it shows a text."""
    with browser_page(server) as page:
        page.goto(f"{server.api.address}{path}")
        page.get_by_text(until).first.wait_for()
        return page.content()
