"""Wire: calls of tasks and their results as bytes, for other processes.

A task, a function or a class that another process can import goes as its module and name. All
others (of ``__main__``, local ones, lambdas) go by value, which needs cloudpickle
(``pip install 'cascade-engine[process]'``). So do those of modules that were registered with
``cloudpickle.register_pickle_by_value``. Without cloudpickle those of ``__main__`` go by name, as
``multiprocessing`` sends them.

A lazy value goes as its whole program: its nodes, with their policies and places in the source. A
node that is mentioned several times stays one node (R3). There it is a new one: it has another
number and another id.

Bytes come from ``dumps`` and go to ``loads``, which executes what they say, as pickle does: read
only what your own processes have sent.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple, cast
from weakref import WeakValueDictionary

from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS, LazyValue, next_number
from cascade.spec.methods import BoundTask
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies
from cascade.spec.resource import ResourceDefinition
from cascade.spec.task_class import Task
from cascade.spec.traces import code_at
from cascade.spec.wording import short

#: The protocol of all pickles here.
_PROTOCOL: Final = 5
#: Modules that are another one in each process.
_MAIN: Final = frozenset({"__main__", "__mp_main__"})
#: Attributes of lazy values that have another form elsewhere, or are made anew.
_OWN: Final = frozenset({"__weakref__", "_code", "_lasti", "_id", "number"})

#: Bytes from which on a value goes through shared memory, between processes that can do so.
SHARED_ABOVE: Final = 1 << 20

loads: Final = pickle.loads


def dumps(value: Any, beside: list[Any] | None = None) -> bytes:
    """``value`` as bytes. About 0.3 µs for atoms and tuples of them, 2 µs for others.

    Args:
        value: The value.
        beside: Takes large buffers, such as the content of an array of numpy, as memoryviews:
            ``loads`` takes them as ``buffers``. They have the value's memory, so copy or send them
            before the value may change. None: all is in the bytes.

    Raises:
        Exception: A part of it cannot be sent; ``unsendable`` says which.
    """
    kind = type(value)
    if kind in ATOMS or (kind is tuple and ATOMS.issuperset(map(type, value))):
        return pickle.dumps(value, _PROTOCOL)
    buffer = io.BytesIO()
    keep = None if beside is None else partial(_is_kept_in, beside)
    _pickler()(buffer, _PROTOCOL, buffer_callback=keep).dump(value)
    return buffer.getvalue()


def _is_kept_in(beside: list[Any], buffer: pickle.PickleBuffer) -> bool:
    """Whether a buffer belongs into the pickle itself; if not, it is put beside it."""
    try:
        content = buffer.raw()
    except BufferError:  # it is not contiguous
        return True
    if content.nbytes < SHARED_ABOVE:
        return True
    beside.append(content)
    return False


def dumps_call(
    args: Sequence[Any], kwargs: dict[str, Any], beside: list[Any] | None = None
) -> bytes:
    """The arguments of a call as bytes, for ``loads``; ``beside`` as for ``dumps``."""
    atoms = ATOMS.issuperset
    if atoms(map(type, args)) and (not kwargs or atoms(map(type, kwargs.values()))):
        return pickle.dumps((tuple(args), kwargs), _PROTOCOL)
    return dumps((tuple(args), kwargs), beside)


class _Joined:
    """A pickle and its buffers, which ``loads`` turns into the value."""

    def __init__(self, data: bytes, beside: Sequence[Any]) -> None:
        self._parts = data, *map(bytearray, beside)

    def __reduce__(self) -> Any:
        return _loads_joined, self._parts


def _loads_joined(data: bytes, *beside: Any) -> Any:
    return loads(data, buffers=beside)


def joined(data: bytes, beside: Sequence[Any]) -> bytes:
    """A pickle and the buffers beside it as one pickle."""
    return pickle.dumps(_Joined(data, beside), _PROTOCOL) if beside else data


def problem_of(value: Any) -> Exception | None:
    """The error of sending ``value``; None if it can be sent."""
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


# -- tasks ----------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """A task as bytes. Equal ones have the same token."""

    token: bytes
    data: bytes


def pack(task: Task[..., Any]) -> Packed:
    """``task`` as bytes; determined once per task.

    Functions that go by value take along the global variables that they use, as these are now.
    """
    found: Packed | None = task.derived.get("packed")
    if found is None:
        from hashlib import blake2b

        data = dumps(task)
        token = blake2b(data, digest_size=16).digest()
        found = task.derived["packed"] = Packed(token, data)
    return found


def goes_by_name(thing: Any, module: str | None, qualname: str) -> bool:
    """Whether another process finds ``thing`` itself under this name in this module."""
    if module is None or "<" in qualname or _goes_by_value(module):
        return False
    found: Any = sys.modules.get(module)
    if getattr(found, "__spec__", None) is None and module not in _MAIN:
        return False  # it was made by a program, and no other process can import it
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is thing


def _goes_by_value(module: str) -> bool:
    cloudpickle = _cloudpickle()
    if cloudpickle is None:
        return False
    if module in _MAIN:
        return True
    registered = cloudpickle.list_registry_pickle_by_value()
    while registered and module:
        if module in registered:
            return True
        module = module.rpartition(".")[0]
    return False


def _named(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


#: Key → task that goes by value, so that it is the same one when it comes back.
_by_key: Final[WeakValueDictionary[bytes, Task[..., Any]]] = WeakValueDictionary()


def _key_of(task: Task[..., Any]) -> bytes:
    key: bytes | None = task.derived.get("key")
    if key is None:
        key = task.derived["key"] = os.urandom(16)
        _by_key[key] = task
    return key


def _blank_task(kind: type[Task[..., Any]], key: bytes) -> Task[..., Any]:
    """The task of this key; a blank one if it is new here."""
    task = _by_key.get(key)
    if task is None:
        task = _by_key[key] = kind.__new__(kind)
    return task


def _fill_task(task: Task[..., Any], state: Any) -> None:
    if hasattr(task, "derived"):
        return  # it was made here, or has come before
    key, func, name, options, owner, migrations = state
    Task.__init__(task, func, name, **options)
    task.owner, task.migrations = owner, migrations
    task.derived["key"] = key


# -- lazy values ----------------------------------------------------------------------------------


class _Nodes:
    """The nodes of a program, in the order of their creation; there, new ones."""

    __slots__ = ("lazies",)

    def __init__(self, lazies: list[LazyValue]) -> None:
        self.lazies = lazies


def _blank_nodes(kinds: Sequence[type[LazyValue]]) -> _Nodes:
    """Nodes without attributes, numbered in this order."""
    lazies = []
    for kind in kinds:
        lazy = kind.__new__(kind)
        lazy.number = next_number()
        lazies.append(lazy)
    return _Nodes(lazies)


def _fill_nodes(
    nodes: _Nodes, states: Sequence[tuple[tuple[str, int, str], dict[str, Any]]]
) -> None:
    """Give the nodes their attributes."""
    for lazy, (place, state) in zip(nodes.lazies, states, strict=True):
        _fill(lazy, state)
        if not lazy.kwargs:
            lazy.kwargs = NO_KWARGS
        lazy._code = code_at(*place)
        lazy._lasti = len(lazy._code.co_code) - 2  # of its last instruction


def _node(nodes: _Nodes, place: int) -> LazyValue:
    return nodes.lazies[place]


def _state_of(lazy: LazyValue) -> tuple[tuple[str, int, str], dict[str, Any]]:
    site, kind = lazy.callsite, cast("Any", type(lazy))
    state = {name: getattr(lazy, name) for name in _slots_of(kind) if hasattr(lazy, name)}
    return (site.filename, site.lineno, lazy._code.co_name), state


@cache
def _slots_of(kind: Any) -> tuple[str, ...]:
    own = (name for base in kind.__mro__ for name in vars(base).get("__slots__", ()))
    return tuple(name for name in own if name not in _OWN)


def _program(target: LazyResult[Any], known: dict[LazyValue, Any]) -> list[LazyValue]:
    """The nodes that ``target`` needs, or may continue as, but for known ones."""
    found: set[LazyValue] = {target}
    todo: list[Any] = [target]
    while todo:
        lazy = todo.pop()
        others = [*lazy._dependencies, *(choice for _, choice in lazy._choices)]
        if lazy._policies is not None:
            policies = lazy._policies
            others += (*policies.conditions, *policies.predecessors, *policies.amounts.values())
        for other in others:
            if other not in known and other not in found:
                found.add(other)
                todo.append(other)
    return sorted(found, key=lambda lazy: lazy.number)


def _blank_operation(kind: type[Operation]) -> Operation:
    return kind.__new__(kind)


def _fill(thing: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(thing, name, value)


@cache
def _constants() -> dict[int, tuple[str, str]]:
    """Id → module and name of the objects of this layer that are recognised by identity."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("cascade.spec."):
            for attribute, value in vars(module).items():
                kind = type(value)
                own = kind.__module__.startswith("cascade.spec.")
                marks = issubclass(kind, (Operation, CallPolicies)) or kind.__name__ in _MARKS
                if own and marks and not issubclass(kind, (Task, BoundTask)):
                    found[id(value)] = name, attribute
    return found


#: Names of the types of which there are such objects only.
_MARKS: Final = frozenset({"_Mark", "_Missing"})


# -- the pickler ----------------------------------------------------------------------------------


def reduced(pickler: Any, thing: Any) -> Any:
    """The reduction of an object that pickle cannot send, or would send otherwise.

    NotImplemented for all others.
    """
    kind = type(thing)
    if issubclass(kind, LazyValue):
        return _reduced_lazy(pickler.nodes, thing)
    if issubclass(kind, Operation):
        return _reduced_operation(kind, thing)
    if kind is ResourceDefinition:
        return _reduced_resource(thing)
    if kind is _Nodes:
        states = [_state_of(lazy) for lazy in thing.lazies]
        kinds = [type(lazy) for lazy in thing.lazies]
        return _blank_nodes, (kinds,), states, None, None, _fill_nodes
    if kind is FunctionType:
        return _reduced_function(thing)
    if kind is CodeType and _cloudpickle() is None:  # the place of a node; no function goes so
        return code_at, (thing.co_filename, thing.co_firstlineno, thing.co_name)
    if kind is CallPolicies or kind.__name__ in _MARKS:
        name = _constants().get(id(thing))
        if name is not None:
            return _named, name
    return NotImplemented


def _reduced_lazy(known: dict[LazyValue, tuple[_Nodes, int]], lazy: LazyResult[Any]) -> Any:
    if lazy not in known:
        nodes = _Nodes(_program(lazy, known))
        known.update({node: (nodes, place) for place, node in enumerate(nodes.lazies)})
    return _node, known[lazy]


def _reduced_operation(kind: type[Operation], operation: Any) -> Any:
    if issubclass(kind, BoundTask):
        return NotImplemented  # by its object
    if not issubclass(kind, Task):
        name = _constants().get(id(operation))
        if name is not None:
            return _named, name
        own = (name for base in kind.__mro__ for name in vars(base).get("__slots__", ()))
        state = {n: getattr(operation, n) for n in own if n != "__weakref__"}
        return _blank_operation, (kind,), state, None, None, _fill
    module = operation.__module__
    if module == "__mp_main__":  # the driver's main module, in a worker
        module = "__main__"
    if goes_by_name(operation, module, operation.__qualname__):
        return _named, (module, operation.__qualname__)
    if kind is not Task:
        raise pickle.PicklingError(
            f"{short(operation)} is a {kind.__name__}, which goes by its name only"
        )
    if _cloudpickle() is None:
        raise pickle.PicklingError(
            f"task '{operation.name}' cannot be imported by another process as "
            f"{operation.__module__}.{operation.__qualname__}; define it at the top level of a "
            "module, or install cloudpickle (pip install 'cascade-engine[process]')"
        )
    options = {
        "mode": operation.mode,
        "nout": operation.nout,
        "may_block": operation.may_block,
        "policies": operation.policies,
        "version": operation.version,
    }
    key, owner, migrations = _key_of(operation), operation.owner, operation.migrations
    content = key, operation.func, operation.name, options, owner, migrations
    return _blank_task, (kind, key), content, None, None, _fill_task


def _reduced_resource(definition: ResourceDefinition[Any]) -> Any:
    func: Any = definition.func
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", "<>")
    if goes_by_name(definition, module, qualname):
        return _named, (module, qualname)
    if _cloudpickle() is None:
        raise pickle.PicklingError(
            f"the resource '{definition.name}' cannot be imported by another process as "
            f"{module}.{qualname}; define its provider at the top level of a module, or install "
            "cloudpickle (pip install 'cascade-engine[process]')"
        )
    options = definition.scope, definition.thread_bound, definition.teardown_timeout
    return ResourceDefinition, (func, definition.name, *options)


def _reduced_function(function: FunctionType) -> Any:
    """The function of a task that goes by name: its name is the task now."""
    task: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        task = getattr(task, part, None)
    is_its = isinstance(task, Task) and task.func is function
    if is_its and goes_by_name(task, function.__module__, function.__qualname__):
        return getattr, (task, "func")
    return NotImplemented


@cache
def _cloudpickle() -> Any:
    """The module cloudpickle; None where it is not installed."""
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


@cache
def _pickler() -> Callable[..., Any]:
    """The class of picklers."""
    cloudpickle = _cloudpickle()
    base: Any = pickle.Pickler if cloudpickle is None else cloudpickle.Pickler
    inherited = getattr(base, "reducer_override", None)

    class WirePickler(base):  # type: ignore[misc]
        """Sends tasks and lazy values."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            #: Lazy value → the nodes that it goes with, and its place among them.
            self.nodes: dict[LazyValue, tuple[_Nodes, int]] = {}

        def reducer_override(self, thing: Any) -> Any:
            found = reduced(self, thing)
            if found is NotImplemented and inherited is not None:
                return inherited(self, thing)
            return found

    return WirePickler
