"""The server of the web view."""

from __future__ import annotations

import asyncio
import socket
import webbrowser
from pathlib import Path
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui

from cascade.command.failures import UsageError
from cascade.command.output import show
from cascade.spec.errors import ConnectorError
from cascade.spec.protocols import Connector
from cascade.web.guard import PARAMETER, Guard, hosts_of, new_token
from cascade.web.model.cache_views import CacheViews
from cascade.web.model.feed import Feed
from cascade.web.model.history import History
from cascade.web.pages import agents, limits, overview, run
from cascade.web.pages import cache as cache_page
from cascade.web.pages import history as history_pages
from cascade.web.site import Site

_STATIC = Path(__file__).parent / "static"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Address(NamedTuple):
    """Where the view is served, and whether a browser is opened there."""

    host: str
    port: int
    opens: bool = False


async def serve(
    connector: Connector,
    prefix: str,
    patience: float,
    address: Address,
    *,
    history: History | None = None,
    cache: CacheViews | None = None,
    read_only: bool = False,
) -> int:
    """Serve the pages until the process is asked to end; the exit code.

    Args:
        connector: Leads to the engines.
        prefix: The first levels of all topics.
        patience: Seconds to wait for engines to answer.
        address: Where the pages are served.
        history: The durable runs.
        cache: The cache.
        read_only: Whether nothing may be changed.

    Raises:
        UsageError: The broker cannot be reached, or the port is taken.
    """
    listener = _listener(address)
    address = address._replace(port=listener.getsockname()[1])  # of 0, which means any
    feed = Feed(connector, prefix)
    try:
        await feed.open(patience)
    except ConnectorError as error:
        listener.close()
        raise UsageError(str(error)) from None
    try:
        token = new_token()
        app = _application(Site(feed, read_only, history, cache))
        is_local = address.host in _LOOPBACK
        hosts = hosts_of(address.host, address.port) if is_local else None
        guarded = Guard(app, token, hosts, address.port)
        await _run(guarded, listener, f"{_url(address)}/?{PARAMETER}={token}", address.opens)
    finally:
        await feed.close()
    return 0


def _application(site: Site) -> FastAPI:
    for page in (overview, run, agents, limits, history_pages, cache_page):
        page.register(site)
    nicegui_app.add_static_files("/static", _STATIC)
    ui.add_css((_STATIC / "web.css").read_text(encoding="utf-8"), shared=True)
    app = FastAPI(openapi_url=None)
    ui.run_with(
        app,
        title="Cascade",
        favicon=_STATIC / "favicon.svg",
        dark=None,
        tailwind=False,
        reconnect_timeout=20.0,
        show_welcome_message=False,
    )
    return app


async def _run(app: Guard, listener: socket.socket, url: str, opens: bool) -> None:
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):  # noqa: ASYNC110  # there is no event for it
        await asyncio.sleep(0.01)
    if server.started:
        show(f"the web view is at {url}")
        if opens:
            await asyncio.to_thread(webbrowser.open, url)
    await serving


def _listener(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot serve at {address.host}:{address.port}: {error.strerror}; choose another "
            "--port"
        ) from None
    return listener


def _url(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{address.port}"
