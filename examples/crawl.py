"""Crawl a web site that often fails, with at most 50 requests per second.

    python examples/crawl.py                 # starts such a site and crawls it
    python examples/crawl.py http://127.0.0.1:8000/

Each round fetches all pages that the round before has found. A request that fails is repeated after
as many seconds as the server asks for. The limit holds for all attempts together, and another
program may change it during the crawl.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import cascade as cs


def is_temporary(error: BaseException) -> bool:
    return isinstance(error, OSError) and getattr(error, "code", 503) in (429, 503)


def pause(error: OSError, attempt: int) -> float:
    """Seconds before the next attempt: what the server asks for, or a growing delay."""
    headers: Any = getattr(error, "headers", None) or {}
    return float(headers.get("Retry-After", 0.1 * 2**attempt))


@cs.task(retry=cs.Retry(6, delay=pause, on=is_temporary), timeout=10)
def fetch(url: str) -> dict[str, Any]:
    with urlopen(url) as answer:
        text = answer.read().decode()
    links = [urljoin(url, link) for link in re.findall(r'href="([^"]*)"', text)]
    return {"url": url, "links": links, "size": len(text)}


@cs.task
def broken(error: HTTPError) -> dict[str, Any]:
    """What is known of a page that cannot be fetched."""
    return {"url": error.url, "links": [], "error": f"{error.code} {error.reason}"}


def fetch_all(urls: list[str]) -> Any:
    return fetch.map(url=urls, catch=(HTTPError, broken))


@cs.task
def crawl(known: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    """One round: add the pages that were found, and fetch those that they link to."""
    known = known | {page["url"]: page for page in found}
    links = {link for page in found for link in page["links"]}
    new = sorted(links - known.keys())
    return crawl.tail(known, fetch_all(new)) if new else known


async def run(start: str, rate: str = "50/s") -> dict[str, Any]:
    async with cs.Engine() as engine:
        engine.constraints.limit_rate("task:fetch", rate, burst=1)
        return dict(await engine.run(crawl({}, fetch_all([start])), use_vm=True))


class FlakyPages(BaseHTTPRequestHandler):
    """30 pages that link to later ones, the last ones to a page 30 that is missing."""

    requests: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        page = int(self.path.strip("/") or 0)
        self.requests[self.path] += 1
        if page >= 30:
            self.send_error(404)
        elif self.requests[self.path] <= page % 3:  # as an overloaded server does
            self.send_response(503)
            self.send_header("Retry-After", "0.2")
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()
            links = {min(2 * page + 1, 29), min(2 * page + 2, 30)}
            self.wfile.write(" ".join(f'<a href="/{link}">' for link in links).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def flaky_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FlakyPages) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def main() -> None:
    if sys.argv[1:]:
        pages = asyncio.run(run(sys.argv[1]))
    else:
        with flaky_site() as start:
            pages = asyncio.run(run(start))
    errors = [page for page in pages.values() if "error" in page]
    print(f"{len(pages) - len(errors)} pages;", *(f"{e['url']}: {e['error']}" for e in errors))


if __name__ == "__main__":
    main()
