"""Groups of tasks that share a fused loop: they continue as each other, and fit into one code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.runtime.loops.tail_call_analysis import Body, body_of
from cascade.runtime.loops.verified_source import Unfit, builtins_of
from cascade.spec.task import Task

#: Most tasks in a loop: a longer cycle is no state machine.
_MOST_TASKS = 16


def members_of(task: Task[..., Any]) -> list[Body]:
    """The bodies of ``task`` and of the tasks that it continues as and that lead back to it."""
    bodies = {task: body_of(task)}
    todo = [task]
    while todo and len(bodies) <= _MOST_TASKS:
        for tail in bodies[todo.pop()].tails.values():
            if tail.target not in bodies and tail.obstacle is None:
                try:
                    bodies[tail.target] = body_of(tail.target)
                except Unfit:
                    continue  # a tail call to it leaves the loop
                todo.append(tail.target)
    group = _come_back(task, bodies)
    _refuse_obstacles(task, bodies[task], group)
    alone = [bodies[task]]
    if any(_obstacle(bodies[member], group) for member in group):
        return _alone_or_refused(task, alone)
    try:
        members = [bodies[member] for member in bodies if member in group]
        _refuse_strangers(members)
    except Unfit:
        return _alone_or_refused(task, alone)
    return members


def _come_back(task: Task[..., Any], bodies: Mapping[Task[..., Any], Body]) -> set[Task[..., Any]]:
    """The tasks in ``bodies`` from which tail calls lead back to ``task``, including it."""
    group = {task}
    grown = True
    while grown:
        more = {
            member
            for member, body in bodies.items()
            if member not in group and any(t.target in group for t in body.tails.values())
        }
        group |= more
        grown = bool(more)
    return group


def _refuse_obstacles(task: Task[..., Any], body: Body, group: set[Task[..., Any]]) -> None:
    obstacle = _obstacle(body, group)
    if obstacle is not None:
        raise obstacle
    if not any(tail.target in group for tail in body.tails.values()):
        stops = next((tail.obstacle for tail in body.tails.values() if tail.obstacle), None)
        reason = f"its tail calls do not come back to '{task.name}'"
        raise stops or Unfit(reason, body.node.lineno)


def _obstacle(body: Body, group: set[Task[..., Any]]) -> Unfit | None:
    """The reason why a loop cannot make a tail call within the group."""
    for tail in body.tails.values():
        if tail.target not in group:
            continue
        if tail.obstacle is not None:
            return tail.obstacle
        parameters = tail.target.parameters
        given = {name for name, _ in tail.given} | parameters.defaults.keys()
        if tail.target is not body.task and not given.issuperset(parameters.signature.parameters):
            return Unfit(
                "the arguments of a tail call do not fit: one is missing", tail.node.lineno
            )
    return None


def _alone_or_refused(task: Task[..., Any], alone: list[Body]) -> list[Body]:
    if not any(tail.target is task for tail in alone[0].tails.values()):
        raise Unfit("the tasks that it continues as cannot share a loop", alone[0].node.lineno)
    return alone


def _refuse_strangers(bodies: Sequence[Body]) -> None:
    """Bodies that share a loop must have the same file, module and closure variables."""
    first = bodies[0].func
    own = {name for body in bodies for name in body.names}
    closed = {name for body in bodies for name in body.func.__code__.co_freevars}
    cells: dict[str, Any] = {}
    for body in bodies:
        func, code = body.func, body.func.__code__
        if body.task.is_async != bodies[0].task.is_async:
            raise Unfit("a plain and a coroutine function cannot share a loop", body.node.lineno)
        if code.co_filename != first.__code__.co_filename:
            raise Unfit("they are in different files", body.node.lineno)
        if func.__globals__ is not first.__globals__:
            raise Unfit("they are in different modules", body.node.lineno)
        if (code.co_flags ^ first.__code__.co_flags) & 0x10:
            raise Unfit("only one of them is nested", body.node.lineno)
        if builtins_of(func) is not builtins_of(first):
            raise Unfit("they have different builtins", body.node.lineno)
        clash = body.outer & (own - set(body.names))
        if clash:
            raise Unfit(f"'{min(clash)}' is a variable of one of them only", body.node.lineno)
        clash = body.outer & (closed - set(code.co_freevars))
        if clash:
            raise Unfit(f"'{min(clash)}' is closed over by one of them only", body.node.lineno)
        for name, cell in zip(code.co_freevars, func.__closure__ or (), strict=True):
            if cells.setdefault(name, cell) is not cell:
                raise Unfit(f"'{name}' is not the same for both", body.node.lineno)
