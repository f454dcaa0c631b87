"""Resource waits: where the items are whose resource does not open."""

import threading
from types import SimpleNamespace

from cascade.runtime.graph_path.queues.resource_waits import ResourceWaits


def test_an_item_on_its_way_from_a_worker_keeps_the_run_busy():
    """Otherwise the run seems to stand still, and its node fails with a CycleError."""
    called, opening, failed = [], [], []
    is_asked = threading.Event()

    def call_in_loop(func, *args):
        called.append((func, args))
        is_asked.set()

    run = SimpleNamespace(
        resources=SimpleNamespace(
            ready=lambda _wanted: None,
            definition=lambda wanted: wanted,
            instance=lambda _wanted, _own: SimpleNamespace(
                is_ready=False, when_settled=opening.append
            ),
        ),
        call_in_loop=call_in_loop,
        is_own_thread=lambda _thread: False,
    )

    def fail(items, _error):
        failed.append(([*items], waits.busy))

    waits = ResourceWaits(run, list, fail)
    worker = threading.Thread(target=waits.opened, args=("wanted", "item", 20.0))
    worker.start()
    assert is_asked.wait(20)
    begin, args = called.pop()
    begin(*args)
    opening.pop()(ConnectionError("no database"))
    worker.join(20)
    assert failed.pop()[0] == []  # no item came later
    assert waits.busy  # the worker itself is not any more

    fail_late, args = called.pop()
    fail_late(*args)
    assert failed == [(["item"], False)]
