"""Task graphs from ordinary functions: ``import cascade as cs``.

A call of a task runs nothing. It gives a lazy value, a node of a graph. ``cs.run`` computes it::

    import cascade as cs

    @cs.task
    def double(n: int) -> int:
        return 2 * n

    @cs.task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    print(cs.run(total(double.map(n=[1, 2, 3]))))  # 12

Tasks:      task, Task, LazyResult, gather, Router, Param, Env, literal, eq, ne, not_, TailCall
Policies:   Retry, Constraint, Capacities, checkpoint
Resources:  resource, inject, override_resource
Running:    run, run_async, Engine, current, emit, Emitted, StreamItem, ProcessExecutor,
            FuturesExecutor, DaskExecutor, RayExecutor
Looking:    dry_run, visualize, explain, verify, show_progress, History, LineWriter, EventLogger,
            LogContext
Caches:     LRUCache, ByCode, ByArguments, CachePolicy, FileContent, FileExists, digestible,
            explain_cache
Durable:    enqueue, enqueue_async, schedule, signal, wait_for, sleep, transaction,
            idempotency_key, storable, portable
Elsewhere:  ControlPlane
Modules:    errors (CascadeError is the base), events, testing

``help(cascade.task)`` describes one of them; ``python -m cascade`` is the command line.

Four distributions share this package, and each is imported when one of its names is first used:
cascade-spec, cascade-graph, cascade-engine and cascade-observatory. Each installs those before it.
A name of one that is missing raises an AttributeError with the package to install.
"""

TYPE_CHECKING = False  # type checkers read it as True; importing typing would cost 7 ms
if TYPE_CHECKING:
    from cascade import testing as testing
    from cascade.adapters.cache.by_code import ByCode as ByCode
    from cascade.adapters.cache.explaining import explain_cache as explain_cache
    from cascade.adapters.cache.files import FileExists as FileExists
    from cascade.adapters.cache.lru import LRUCache as LRUCache
    from cascade.adapters.executors.dask import DaskExecutor as DaskExecutor
    from cascade.adapters.executors.futures import FuturesExecutor as FuturesExecutor
    from cascade.adapters.executors.process import ProcessExecutor as ProcessExecutor
    from cascade.adapters.executors.ray import RayExecutor as RayExecutor
    from cascade.graph.outline import dry_run as dry_run
    from cascade.graph.references import portable as portable
    from cascade.graph.storable import storable as storable
    from cascade.graph.visualize import visualize as visualize
    from cascade.runtime import events as events
    from cascade.runtime.control.plane import ControlPlane as ControlPlane
    from cascade.runtime.current import current as current
    from cascade.runtime.durable.enqueuing import enqueue as enqueue
    from cascade.runtime.durable.enqueuing import enqueue_async as enqueue_async
    from cascade.runtime.durable.schedules import schedule as schedule
    from cascade.runtime.durable.signals import signal as signal
    from cascade.runtime.emitting import Emitted as Emitted
    from cascade.runtime.emitting import StreamItem as StreamItem
    from cascade.runtime.emitting import emit as emit
    from cascade.runtime.engine import Engine as Engine
    from cascade.runtime.limits.capacities import Capacities as Capacities
    from cascade.runtime.limits.rules import Constraint as Constraint
    from cascade.runtime.log_context import LogContext as LogContext
    from cascade.runtime.loops.tiers import explain as explain
    from cascade.runtime.runners import run as run
    from cascade.runtime.runners import run_async as run_async
    from cascade.runtime.telemetry.history import History as History
    from cascade.runtime.telemetry.lines import LineWriter as LineWriter
    from cascade.runtime.telemetry.logs import EventLogger as EventLogger
    from cascade.runtime.telemetry.progress import show_progress as show_progress
    from cascade.runtime.vm.verifier import verify as verify
    from cascade.spec import errors as errors
    from cascade.spec.blueprint import TailCall as TailCall
    from cascade.spec.blueprint import literal as literal
    from cascade.spec.caching import ByArguments as ByArguments
    from cascade.spec.caching import CachePolicy as CachePolicy
    from cascade.spec.checkpoints import checkpoint as checkpoint
    from cascade.spec.digest import digestible as digestible
    from cascade.spec.errors import CascadeError as CascadeError
    from cascade.spec.file_content import FileContent as FileContent
    from cascade.spec.kept_calls import idempotency_key as idempotency_key
    from cascade.spec.kept_calls import transaction as transaction
    from cascade.spec.lazy_types import LazyResult as LazyResult
    from cascade.spec.lazy_types import gather as gather
    from cascade.spec.operators import eq as eq
    from cascade.spec.operators import ne as ne
    from cascade.spec.operators import not_ as not_
    from cascade.spec.overrides import override_resource as override_resource
    from cascade.spec.params import Env as Env
    from cascade.spec.params import Param as Param
    from cascade.spec.resource import inject as inject
    from cascade.spec.resource import resource as resource
    from cascade.spec.retry import Retry as Retry
    from cascade.spec.routing import Router as Router
    from cascade.spec.task import task as task
    from cascade.spec.task_class import Task as Task
    from cascade.spec.waits import sleep as sleep
    from cascade.spec.waits import wait_for as wait_for
else:  # hidden from checkers: with a module __getattr__ they would accept every misspelt name
    import os.path
    import sys
    from importlib import import_module

    # Editable installs leave each layer in a source tree of its own, so the folders of this package
    # are gathered from all of sys.path. pkgutil.extend_path() does that too, but importing pkgutil
    # takes 8 ms, of the 10 that `import cascade` may take (observatory/benchmarks/import_cost.py).
    _folders = [os.path.join(entry, __name__) for entry in sys.path]
    __path__ = list(dict.fromkeys([*__path__, *filter(os.path.isdir, _folders)]))

    _DISTRIBUTIONS = {
        "adapters": "cascade-engine",
        "graph": "cascade-graph",
        "runtime": "cascade-engine",
        "spec": "cascade-spec",
        "testing": "cascade-engine",
    }
    _PUBLIC = {
        "adapters.cache.by_code": ("ByCode",),
        "adapters.cache.explaining": ("explain_cache",),
        "adapters.cache.files": ("FileExists",),
        "adapters.cache.lru": ("LRUCache",),
        "adapters.executors.dask": ("DaskExecutor",),
        "adapters.executors.futures": ("FuturesExecutor",),
        "adapters.executors.process": ("ProcessExecutor",),
        "adapters.executors.ray": ("RayExecutor",),
        "graph.outline": ("dry_run",),
        "graph.references": ("portable",),
        "graph.storable": ("storable",),
        "graph.visualize": ("visualize",),
        "runtime": ("events",),
        "runtime.control.plane": ("ControlPlane",),
        "runtime.current": ("current",),
        "runtime.durable.enqueuing": ("enqueue", "enqueue_async"),
        "runtime.durable.schedules": ("schedule",),
        "runtime.durable.signals": ("signal",),
        "runtime.emitting": ("Emitted", "StreamItem", "emit"),
        "runtime.engine": ("Engine",),
        "runtime.telemetry.history": ("History",),
        "runtime.limits.capacities": ("Capacities",),
        "runtime.limits.rules": ("Constraint",),
        "runtime.log_context": ("LogContext",),
        "runtime.runners": ("run", "run_async"),
        "runtime.telemetry.lines": ("LineWriter",),
        "runtime.telemetry.logs": ("EventLogger",),
        "runtime.telemetry.progress": ("show_progress",),
        "runtime.loops.tiers": ("explain",),
        "runtime.vm.verifier": ("verify",),
        "spec": ("errors",),
        "spec.blueprint": ("TailCall", "literal"),
        "spec.caching": ("ByArguments", "CachePolicy"),
        "spec.checkpoints": ("checkpoint",),
        "spec.digest": ("digestible",),
        "spec.errors": ("CascadeError",),
        "spec.file_content": ("FileContent",),
        "spec.kept_calls": ("idempotency_key", "transaction"),
        "spec.lazy_types": ("LazyResult", "gather"),
        "spec.operators": ("eq", "ne", "not_"),
        "spec.overrides": ("override_resource",),
        "spec.params": ("Env", "Param"),
        "spec.resource": ("inject", "resource"),
        "spec.retry": ("Retry",),
        "spec.routing": ("Router",),
        "spec.task": ("task",),
        "spec.task_class": ("Task",),
        "spec.waits": ("sleep", "wait_for"),
    }
    _HOMES = {name: f"{__name__}.{home}" for home, names in _PUBLIC.items() for name in names}
    _HOMES["testing"] = __name__
    #: The names of these are modules.
    _PACKAGES = (__name__, f"{__name__}.runtime", f"{__name__}.spec")

    def _is_installed(layer: str) -> bool:
        from importlib.util import find_spec  # 3 ms that an ordinary look-up does not need

        # The folder that an uninstall can leave behind is a namespace package: it has no origin.
        spec = find_spec(f"{__name__}.{layer}")
        return spec is not None and spec.origin is not None

    def _installed_names() -> list[str]:
        layers = {layer for layer in _DISTRIBUTIONS if _is_installed(layer)}
        return sorted(name for name in _HOMES if _layer_of(name) in layers)

    def _layer_of(name: str) -> str:
        home = f"{_HOMES[name]}.{name}"
        return home.split(".")[1]

    def __getattr__(name: str) -> object:
        if name == "__all__":  # not fixed, so that a star import works with any set of layers
            return _installed_names()
        home = _HOMES.get(name)
        if home is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            if name.endswith("Error"):
                message += f"; errors but CascadeError are in {__name__}.errors"
            raise AttributeError(message, name=name)
        try:
            module = import_module(home)
            if home in _PACKAGES:
                value: object = import_module(f"{home}.{name}")
            else:
                value = getattr(module, name)
        except ModuleNotFoundError:
            layer = _layer_of(name)
            if _is_installed(layer):
                raise  # the layer is there, and something else is missing
            distribution = _DISTRIBUTIONS[layer]
            message = f"cascade.{name} needs {distribution}: pip install {distribution}"
            raise AttributeError(message, name=name) from None
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        dunders = (name for name in globals() if name.startswith("__"))
        return sorted({*dunders, *_installed_names()})
