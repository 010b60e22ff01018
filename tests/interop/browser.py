"""Headless Chromium, driven by playwright: a page over HTTP/2, and what it says and shows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from .programs import require, require_module, version_of

if TYPE_CHECKING:
    from playwright.async_api import Page

# No sandbox: CI is root. The rest keeps it from the network: only the page is asked for.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_DIRECT = ["--no-proxy-server"]
# Loopback included; the proxy's certificate is no concern of a page's context.
_THROUGH = [
    "--proxy-server={}",
    "--proxy-bypass-list=<-loopback>",
    "--ignore-certificate-errors",
]


def version() -> str:
    """Return Chromium's version."""
    return version_of("chromium", "--version")


@contextlib.asynccontextmanager
async def chromium(*, proxy: str | None = None) -> AsyncIterator[Page]:
    """Give an empty page of a new Chromium; whatever goes wrong in the page fails the test.

    ``proxy``: the URL of the proxy that everything goes through. Certificates are not checked:
    theirs is the test's own.
    """
    program = require("chromium")
    driver = require_module("playwright.async_api", "playwright")
    flags = _FLAGS + (_DIRECT if proxy is None else [flag.format(proxy) for flag in _THROUGH])
    async with driver.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        try:
            context = await browser.new_context(ignore_https_errors=True)
            page = await context.new_page()
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            yield page
            if wrong:
                raise AssertionError("\n".join(["the page said:", *wrong]))
        finally:
            await browser.close()
