"""Stored calls: the arguments of a call that an earlier process has stored, for the task as it is
now (D9).

A task with a version says so in what is stored about its calls. The task that is called may have
another version by then, with a function for the way there, or another signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from cascade.graph.references import reference_to, tasks_of
from cascade.graph.values import TaskCall, ValueReader
from cascade.spec.errors import ArgumentError, CodeChangedError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.nearby import did_you_mean
from cascade.spec.task import Task
from cascade.spec.wording import short, type_name

#: Reference of a task with a version → its version, and the names of its positional parameters.
Versions: TypeAlias = Mapping[str, tuple[str, Sequence[str]]]


def versions_of(lazies: Iterable[LazyResult[Any]]) -> dict[str, tuple[str, Sequence[str]]]:
    """The versions of the tasks of nodes, as far as they have any."""
    found: dict[str, tuple[str, Sequence[str]]] = {}
    for task in tasks_of(lazies):
        if task.version is not None:
            reference = reference_to(task)
            if reference is not None:
                found[reference] = task.version, task.parameters.positional
    return found


def fitted(task: Task[..., Any], version: str | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name for a call of ``task`` that was stored with these.

    Args:
        version: The version of the task when they were stored.
        named: Some may be lazy. Resources are left out.

    Raises:
        CodeChangedError: The task has another version, and no function that migrates from that one;
            or it does not take these arguments.
        Exception: The function that migrates raised it.
    """
    if version != task.version:
        named = _migrated(task, version, named)
    parameters = task.parameters
    taken = parameters.signature.parameters
    for name in named:
        if name not in taken:
            free = [free for free in taken if free not in named]
            raise _changed(
                task, f"it no longer takes the argument '{name}'{did_you_mean(name, free)}"
            )
    complete = {**parameters.defaults, **named}
    for name in (*parameters.positional, *parameters.keyword):
        if name not in complete:
            raise _changed(task, f"its new parameter '{name}' has no default")
    return complete


def _migrated(
    task: Task[..., Any], version: str | None, named: Mapping[str, Any]
) -> Mapping[str, Any]:
    migrate = task.migrations.get(version)
    if migrate is None:
        was = "no version" if version is None else f"the version {version!r}"
        now = "none" if task.version is None else repr(task.version)
        raise CodeChangedError(
            f"a call of task '{task.name}' was stored when that had {was}, and now it has {now}; "
            f"write what becomes of the arguments: @{task.name}.migrate({version!r}), or let code "
            "with the old version finish the run",
            task.name,
        )
    given = migrate(dict(named))
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise CodeChangedError(
            f"@{task.name}.migrate({version!r}) has to return the arguments by name, as a dict, "
            f"but returned {short(given)} ({type_name(given)})",
            task.name,
        )
    return given


def _changed(task: Task[..., Any], how: str) -> CodeChangedError:
    return CodeChangedError(
        f"a stored call of task '{task.name}' does not fit it any more: {how}; its signature is "
        f"now {task.name}{task.parameters.signature}. Give new parameters defaults, or give the "
        f"task a version, as @cs.task(version='2'), and write @{task.name}.migrate(…)",
        task.name,
    )


class StoredCallReader(ValueReader):
    """Reads calls of tasks that an earlier process has stored.

    Args:
        versions: The versions that the tasks had then.
        reader: The arguments of a ValueReader.
    """

    def __init__(self, versions: Versions, *reader: Any) -> None:
        super().__init__(*reader)
        self._versions = versions
        #: Reference → task, version and names of the parameters when calls of it were stored.
        self._stored: dict[Any, tuple[Task[..., Any], str | None, Sequence[str]]] = {}
        #: References, with numbers of positional arguments that fit alone.
        self._fitting: set[tuple[Any, int]] = set()

    def call(self, reference: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskCall:
        """The task of a call, and the arguments to call it with now.

        Raises:
            CodeChangedError: The task does not take the arguments any more.
        """
        stored = self._stored.get(reference)
        if stored is None:
            task = self.resolver.task(reference)
            known = self._versions.get(reference, (None, task.parameters.positional))
            stored = self._stored[reference] = task, *known
        task, version, names = stored
        if version == task.version:
            if not kwargs and (reference, len(args)) in self._fitting:
                return task, args, kwargs
            try:
                task.parameters.named(args, kwargs)
            except ArgumentError as error:
                raise _changed(task, str(error)) from error
            if not kwargs:
                self._fitting.add((reference, len(args)))
            return task, args, kwargs
        if len(args) > len(names):
            raise _changed(task, "the arguments for *args have no names, and cannot be migrated")
        named = fitted(task, version, {**dict(zip(names, args, strict=False)), **kwargs})
        return task, *task.parameters.spread(named)

    def mapped(self, reference: Any) -> Task[..., Any]:
        """The task of a map.

        Raises:
            CodeChangedError: It has another version.
        """
        task = self.resolver.task(reference)
        version, _ = self._versions.get(reference, (None, ()))
        if version != task.version:
            raise _changed(task, "a map has no single arguments, and cannot be migrated")
        return task
