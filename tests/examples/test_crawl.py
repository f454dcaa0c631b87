"""examples/crawl.py: a site that often fails, at no more than so many requests per second."""

from __future__ import annotations

import asyncio
import time

import pytest
from examples import crawl


class Watched(crawl.FlakyPages):
    """The same site, which notes the time of each request."""

    times: list[float]

    def do_GET(self) -> None:
        self.times.append(time.monotonic())
        super().do_GET()


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    Watched.times = []
    Watched.requests.clear()
    monkeypatch.setattr(crawl, "FlakyPages", Watched)
    return Watched.times


def test_all_pages_are_fetched_and_the_missing_one_is_reported(times: list[float]) -> None:
    with crawl.flaky_site() as start:
        pages = asyncio.run(crawl.run(start, rate="5000/s"))

    names = {url.removeprefix(start) for url in pages}
    assert names == {"", *map(str, range(1, 31))}
    assert [page["url"] for page in pages.values() if "error" in page] == [f"{start}30"]
    assert pages[f"{start}30"]["error"] == "404 Not Found"
    # A page n fails n % 3 times; the missing page is requested once.
    assert len(times) == 30 + sum(page % 3 for page in range(30)) + 1


def test_the_rate_limits_all_attempts_together(times: list[float]) -> None:
    began = time.monotonic()
    with crawl.flaky_site() as start:
        asyncio.run(crawl.run(start, rate="50/s"))

    # A token bucket of one: n attempts take at least n - 1 intervals.
    assert times[-1] - began >= (len(times) - 1) / 50
