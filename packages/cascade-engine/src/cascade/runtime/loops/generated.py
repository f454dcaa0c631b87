"""Generated loops: Python functions written for tasks without a fused loop.

Each has the parameters of its task as local variables, and the trampoline inside: the node's
handling of a self tail call, specialised for one signature::

    def f(steps, state, n, acc):
        for _ in steps:
            value = call(n, acc)
            if type(value) is not TailCall or …:       # for another task: for the node
                break
            …                                          # the new arguments, each looked at (M2)
            n, acc = new_n, new_acc
        else:
            return PAUSED, 0, n, acc
        return value, 0, n, acc

All results other than a tail call of the task to itself go to the node; so do tail calls that do
not fit, for the error. The task's own function is called unchanged, so that no source is needed,
unlike for a fused loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cascade.runtime.execution.contexts import differs
from cascade.runtime.loops.protocol import LAZY, PAUSED, is_lazy
from cascade.runtime.loops.verified_source import Unfit, refuse
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.parameters import Parameters
from cascade.spec.task import Task

#: The file name in tracebacks; these frames are left out of users' tracebacks with this folder.
_FILE = f"{__file__[: -len('.py')]}/<generated>"


class Generated:
    """The loop of one task; has the interface of ``fused.Fused``.

    Raises:
        Unfit: Its calls are not plain calls, or its arguments have no names.
    """

    def __init__(self, task: Task[..., Any]) -> None:
        refuse(task)
        self.tasks = (task,)
        self.is_async = task.is_async
        self.parameters = tuple(task.parameters.signature.parameters)
        self._loop = _loop(task)

    def state_of(self, task: Task[..., Any]) -> int:
        return self.tasks.index(task)

    def values(self, _task: Task[..., Any], named: Mapping[str, Any]) -> list[Any]:
        return [named[name] for name in self.parameters]

    def named(self, _state: int, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.parameters, values, strict=True))

    def loop_for(self, values: Sequence[Any]) -> Callable[..., Any] | None:
        """The function to enter with ``values``; None if the node must handle one of them."""
        if any(type(v) not in ATOMS and issubclass(type(v), LAZY) for v in values):
            return None
        return self._loop

    def state_at(self, _error: BaseException, entered: int) -> int:
        return entered


def generate(task: Task[..., Any]) -> Generated | Unfit:
    """The generated loop of ``task``, or the reason why there is none; made once per task."""
    found: Generated | Unfit | None = task.derived.get("generated")
    if found is None:
        try:
            found = Generated(task)
        except Unfit as refusal:
            # Kept for long, so without the frames of its first caller.
            found = Unfit(refusal.reason, refusal.line)
        task.derived["generated"] = found
    return found


def _loop(task: Task[..., Any]) -> Callable[..., Any]:
    scope = {
        "__cs_call": task.func,
        "__cs_task": task,
        "__cs_TailCall": TailCall,
        "__cs_ATOMS": ATOMS,
        "__cs_is_lazy": is_lazy,
        "__cs_PAUSED": PAUSED,
        "__cs_type": type,
        "__cs_len": len,
        "__cs_differs": differs,
    }
    made: dict[str, Any] = {}
    exec(compile("\n".join(_lines(task, scope)), _FILE, "exec"), made)
    loop: Callable[..., Any] = made["__cs_loop"]
    loop.__kwdefaults__ = scope  # as local variables, the fastest look-up
    return loop


def _lines(task: Task[..., Any], scope: Iterable[str]) -> Iterator[str]:
    parameters = task.parameters
    names = tuple(parameters.signature.parameters)
    by_name = [name for name in parameters.keyword if name not in parameters.positional]
    call = ", ".join([*parameters.positional, *(f"{name}={name}" for name in by_name)])
    leading = "__cs_steps, __cs_state"
    define, wait = "def", ""
    if task.is_async:
        leading += ", __cs_before, __cs_own, __cs_context, __cs_variables, __cs_held"
        define, wait = "async def", "await "
    taken = ", ".join(f"{name}=None" for name in scope)
    yield f"{define} __cs_loop({leading}, {_listed(names)} *, {taken}):"
    yield from (f"    {_kind(name)} = None" for name in names)
    yield "    for __cs_step in __cs_steps:"
    yield f"        __cs_value = {wait}__cs_call({call})"
    yield "        if __cs_type(__cs_value) is not __cs_TailCall:"
    yield "            break"
    yield "        if __cs_value.target is not __cs_task and __cs_value.target is not None:"
    yield "            break"
    yield "        if __cs_value.target_blueprint_id is not None:"
    yield "            break"
    yield from (f"        {line}" for line in _new_arguments(parameters, task.is_async))
    if task.is_async:
        yield "        __cs_value = __cs_args = __cs_kwargs = None"  # the next step frees these
        yield "        if __cs_own.cancelling() != __cs_before or ("
        yield "            __cs_len(__cs_context) != __cs_variables"
        yield "            or (__cs_held and __cs_differs(__cs_context, __cs_held))"
        yield "        ):"
        yield f"            return __cs_PAUSED, 0, {_listed(names)}"
    yield "    else:"
    yield f"        return __cs_PAUSED, 0, {_listed(names)}"
    yield f"    return __cs_value, 0, {_listed(names)}"


def _new_arguments(parameters: Parameters, is_async: bool) -> Iterator[str]:
    """Take the arguments from the tail call; those that it does not give keep their values."""
    positional, keyword = parameters.positional, parameters.keyword
    names = tuple(parameters.signature.parameters)
    yield "__cs_args = __cs_value.args"
    yield "__cs_kwargs = __cs_value.kwargs"
    yield "if __cs_kwargs:"
    yield from (f"    {line}" for line in _by_name(keyword, names, is_async))
    for count in range(len(positional), 0, -1):
        given = positional[:count]
        yield f"elif __cs_len(__cs_args) == {count}:"
        yield f"    {_listed([_new(name) for name in given])} = __cs_args"
        for name in given:
            yield from (f"    {line}" for line in _looked_at(name, names))
        yield from (f"    {line}" for line in _taken(given, is_async))
    yield "elif __cs_args:"
    yield "    break"


def _by_name(keyword: Sequence[str], names: Sequence[str], is_async: bool) -> Iterator[str]:
    if not keyword:
        yield "break"
        return
    yield "if __cs_args:"
    yield "    break"
    yield "__cs_left = __cs_len(__cs_kwargs)"
    yield from (f"{_new(name)} = {name}" for name in keyword)
    for name in keyword:
        yield f"if {name!r} in __cs_kwargs:"
        yield f"    {_new(name)} = __cs_kwargs[{name!r}]"
        yield from (f"    {line}" for line in _looked_at(name, names))
        yield "    __cs_left -= 1"
    yield "if __cs_left:"
    yield "    break"
    yield from _taken(keyword, is_async)


def _looked_at(name: str, names: Sequence[str]) -> Iterator[str]:
    """Leave an argument that may be lazy to the node, unless the last step had it as well (M2).

    Most arguments have the type of the last step's, which takes least to compare.
    """
    new, kind = _new(name), _kind(name)
    known = "".join(f"{new} is not {other} and " for other in names)
    yield f"if __cs_type({new}) is not {kind}:"
    yield f"    if __cs_type({new}) in __cs_ATOMS:"
    yield f"        {kind} = __cs_type({new})"
    yield f"    elif {known}__cs_is_lazy({new}):"
    yield "        break"


def _taken(names: Sequence[str], is_async: bool) -> Iterator[str]:
    yield from (f"{name} = {_new(name)}" for name in names)
    if is_async:
        yield f"del {', '.join(map(_new, names))}"


def _new(name: str) -> str:
    return f"__cs_new_{name}"


def _kind(name: str) -> str:
    """A variable: the atomic type that the argument had last."""
    return f"__cs_kind_{name}"


def _listed(names: Sequence[str]) -> str:
    """The items of a tuple, with a comma even if there is only one."""
    return "".join(f"{name}, " for name in names).rstrip()
