"""Orders: requests of views to cancel a run of an engine, or to send it a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cascade.runtime.control.forms import built
from cascade.runtime.control.looks import CANCEL, Order
from cascade.runtime.engine import Engine
from cascade.runtime.graph_path.observing import awaited
from cascade.runtime.telemetry.wording import error_text

#: Orders under way: asyncio holds tasks only weakly.
_under_way: set[asyncio.Task[None]] = set()


def obey(engine: Engine, order: Order, answer: Callable[[Order, bool, str], object]) -> None:
    """Carry out an order, and tell how it went. In the loop's thread.

    Args:
        engine: The engine.
        order: The order.
        answer: Called with the order, whether it was carried out, and a line for people.
    """
    if order.do == CANCEL:
        done = engine.engine_runs.cancel(order.run)
        text = "asked to end" if done else "no such run is under way in this engine"
        answer(order, done, text)
        return
    sending = asyncio.create_task(_send(engine, order, answer))
    _under_way.add(sending)
    sending.add_done_callback(_under_way.discard)


def _value(engine: Engine, order: Order) -> Any:
    """The value of a signal; an object, if the task that waits for it says so.

    Raises:
        ValueError: The value does not fit.
    """
    run = engine.engine_runs.find(order.run)
    for one in [] if run is None else awaited(run.inside):
        if one.name == order.name:
            return built(one.annotation, order.value)
    return order.value


async def _send(engine: Engine, order: Order, answer: Callable[[Order, bool, str], object]) -> None:
    try:
        value = _value(engine, order)
        await engine.signal(order.run, order.name, value)
    except Exception as error:  # the view shows it to the sender of the signal
        answer(order, False, error_text(error))
    else:
        answer(order, True, f"sent {order.name}")
