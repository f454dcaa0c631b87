"""``cs.signal``: signals from programs that have no engine."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from cascade.adapters.stores.urls import open_store
from cascade.graph.codec import Codec
from cascade.spec.run_store import RunStore
from cascade.spec.waits import check_signal


def signal(
    store: RunStore | str,
    run_id: str,
    name: str,
    value: Any = None,
    *,
    signing_key: bytes | str | None = None,
) -> None:
    """Send a signal to a durable run, which ``cs.wait_for(name)`` takes (D11).

    It waits until the signal is committed. In an engine's event loop use ``engine.signal``.

    Args:
        store: The store of the run, or its URL.
        run_id: The id of the run.
        name: The name of the signal.
        value: Its value.
        signing_key: That of the engines which execute the run, if they have one.

    Raises:
        RunNotFoundError: No run has the id.
        RunConflictError: The run has ended.
        NotStorableError: ``value`` has no stored form.
        StoreError: The store cannot be used.
    """
    check_signal("signal()", name)
    body = Codec(signing_key=signing_key).dumps(value)
    if isinstance(store, RunStore):
        store.send(run_id, name, body)
        return
    with closing(open_store(store)) as opened:
        opened.send(run_id, name, body)
