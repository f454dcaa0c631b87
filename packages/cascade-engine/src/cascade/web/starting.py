"""``cascade web``: a view of engines, runs and stores in a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cascade.command.caches import VARIABLE as CACHE
from cascade.command.caches import CacheUrl
from cascade.command.failures import UsageError
from cascade.command.modules import load
from cascade.command.remote import Broker, Patience, Prefix, connector_of, wait_for
from cascade.command.stores import VARIABLE as STORE
from cascade.command.stores import StoreUrl, codec, opened
from cascade.command.targets import find

if TYPE_CHECKING:
    from cascade.web.model.cache_views import CacheViews
    from cascade.web.model.history import History

_LEAST, _MOST = 0, 65_535


def web(
    *modules: Annotated[
        str,
        Parameter(
            name="MODULE",
            help="Modules to import, dotted or .py files, so that values of their classes can be "
            "read. With a target, MODULE:TARGET, the cache page explains it.",
        ),
    ],
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
    store: StoreUrl = None,
    cache: CacheUrl = None,
    port: Annotated[
        int, Parameter(metavar="PORT", help="The port to serve at; 0 for any free one.")
    ] = 8765,
    host: Annotated[
        str,
        Parameter(
            metavar="ADDRESS",
            help="The address to serve at. Others than 127.0.0.1 can be reached from other "
            "machines, without encryption.",
        ),
    ] = "127.0.0.1",
    read_only: Annotated[bool, Parameter(help="Refuse all changes.", show_default=False)] = False,
    open: Annotated[
        bool,
        Parameter(negative="--no-open", help="Open it in the browser.", show_default=False),
    ] = True,
) -> int:
    """Show engines, their runs, limits, stores and caches in a browser, until Ctrl-C.

    Anybody with the URL may see and change everything that this command can.
    """
    if find_spec("nicegui") is None:
        raise UsageError('the web view needs nicegui: pip install "cascade-engine[web]"')
    if not _LEAST <= port <= _MOST:
        raise UsageError(f"--port takes a number from {_LEAST} to {_MOST}, but got {port}")
    from cascade.web.server import Address, serve

    _import(modules)
    with ExitStack() as closing:
        serving = serve(
            connector_of(broker),
            prefix,
            wait,
            Address(host, port, open),
            history=_history(store, closing),
            cache=_cache(cache, modules),
            read_only=read_only,
        )
        return wait_for(serving)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        if ":" in module:
            find(module)
        else:
            load(module)


def _history(store: str | None, closing: ExitStack) -> History | None:
    if store is None and not os.environ.get(STORE):
        return None
    from cascade.web.model.history import History

    return History(closing.enter_context(opened(store, create=True)), codec())


def _cache(url: str | None, modules: Sequence[str]) -> CacheViews | None:
    found = url or os.environ.get(CACHE)
    if not found:
        return None
    from cascade.web.model.cache_views import CacheViews

    return CacheViews(found, [module for module in modules if ":" in module])
