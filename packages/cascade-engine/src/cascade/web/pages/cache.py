"""Cache: the entries of each task, and why the calls of a target would be made."""

from __future__ import annotations

import asyncio

from nicegui import ui

from cascade.spec.errors import CascadeError
from cascade.web.model.cache_views import CacheViews
from cascade.web.pages.frame import Table, button, frame, panel, say, text
from cascade.web.site import Site

#: Seconds between two looks.
_EVERY = 5.0
_NO_CACHE = "No cache was named: cascade web --cache sqlite:///cache.db, or set CASCADE_CACHE."


def register(site: Site) -> None:
    """Serve the page."""

    @ui.page("/cache", title="Cascade · Cache")
    async def cache() -> None:
        with frame(site, "/cache", "Cache"):
            if site.cache is None:
                text(_NO_CACHE, "notice")
                return
            await _kept(site.cache)
            _why(site.cache)


async def _kept(cache: CacheViews) -> None:
    with panel("What is kept", flush=True):
        table = Table(
            {
                "task": "task",
                "entries": "entries",
                "size": "size",
                "saves": "a hit saves",
                "used": "last used",
            },
            {"entries": "number", "size": "number", "saves": "number", "used": "number"},
            key="task",
            empty="The cache is empty.",
        )
        fault = text("", "notice small")

    async def refresh() -> None:
        try:
            found = await asyncio.to_thread(cache.kept)
        except CascadeError as error:
            say(fault, str(error))
            fault.set_visibility(True)
            return
        fault.set_visibility(False)
        table.show(
            [
                {
                    "task": kept.task,
                    "entries": f"{kept.entries:,}",
                    "size": kept.size,
                    "saves": kept.saves,
                    "used": kept.used,
                }
                for kept in found
            ]
        )

    await refresh()
    ui.timer(_EVERY, refresh)


def _why(cache: CacheViews) -> None:
    with panel("Hits, and why not", flush=True):
        if not cache.targets:
            text("Name targets to see what is known of them: cascade web flows.py:report", "hint")
            return
        with ui.element("div").classes("row-line"):
            chosen = ui.select(list(cache.targets), value=cache.targets[0], label="Target")
            chosen.props("outlined dense").style("min-width: 240px")
            button("Look", lambda: look(), "act")
        fault = text("", "notice small")
        fault.set_visibility(False)
        table = Table(
            {"task": "task", "count": "calls", "status": "status", "reason": "why"},
            {"count": "number", "reason": "wide"},
            key="place",
            empty="Nothing was looked at yet.",
        )

    async def look() -> None:
        found, said = await asyncio.to_thread(cache.why, chosen.value)
        say(fault, said)
        fault.set_visibility(bool(said))
        table.show(
            [
                {
                    "place": place,
                    "task": one.task,
                    "count": f"{one.count:,}",
                    "status": one.status,
                    "reason": one.reason,
                }
                for place, one in enumerate(found)
            ]
        )
