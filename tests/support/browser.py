"""A real browser, to look at the pages that an operator looks at."""

import os
import shutil
import subprocess
import tempfile

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PAGE_SECONDS = 60
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1400",
    # Time in the page runs as fast as its requests are answered.
    "--virtual-time-budget=20000",
)


def page_text(address: str) -> str:
    """Return a page as it is once its scripts have run.

    Skips the test where there is no browser, but never in CI.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium, and tests must not skip in CI")
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory(prefix="vm-", ignore_cleanup_errors=True) as profile:
        shown = subprocess.run(
            [browser, *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", address],
            capture_output=True,
            text=True,
            timeout=PAGE_SECONDS,
            check=True,
        )
    return shown.stdout
