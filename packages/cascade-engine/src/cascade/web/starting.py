"""``cascade web``: a view of engines, runs and stores in a browser."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

from cyclopts import Parameter

from cascade.command.failures import UsageError
from cascade.command.remote import Broker, Patience, Prefix, connector_of, wait_for

_LEAST, _MOST = 0, 65_535


def web(
    *,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
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
    read_only: Annotated[
        bool, Parameter(help="Let nobody change anything.", show_default=False)
    ] = False,
    open: Annotated[
        bool,
        Parameter(negative="--no-open", help="Open it in the browser.", show_default=False),
    ] = True,
) -> int:
    """Show engines, their runs, limits and stores in a browser, until Ctrl-C.

    Who has the URL may see and change everything that this command can.
    """
    if find_spec("nicegui") is None:
        raise UsageError('the web view needs nicegui: pip install "cascade-engine[web]"')
    if not _LEAST <= port <= _MOST:
        raise UsageError(f"--port takes a number from {_LEAST} to {_MOST}, but got {port}")
    from cascade.web.server import Address, serve

    connector = connector_of(broker)
    address = Address(host, port, open)
    return wait_for(serve(connector, prefix, wait, address, read_only=read_only))
