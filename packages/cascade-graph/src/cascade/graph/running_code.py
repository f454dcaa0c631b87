"""The code of a run's tasks, as it is stored with the run, and what has changed since (D9).

The document has each component once, however many tasks use it::

    {"parts": [[name, digest], …], "users": [[name, user], …],
     "tasks": {task: [[part, …], [user, …]]}}

Values that a program may change while it runs, such as lists, counters and caches in global
variables, are no part of it: they differ between any two moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from cascade.graph.codehash import CodeHash, changes, code_hash
from cascade.graph.readings import Readings
from cascade.graph.references import reference_to
from cascade.spec.errors import SerializationError
from cascade.spec.task import Task
from cascade.spec.wording import name_of

#: Name of a task → its code.
RunningCode: TypeAlias = Mapping[str, CodeHash]
#: The component that stands for Python itself.
_PYTHON = "bytecode"


def running_code(tasks: Iterable[Task[..., Any]]) -> RunningCode:
    """The code of tasks, with all that it names.

    Takes some 100 µs for each new function, and some 10 µs more for each new task that reaches it.
    """
    readings = Readings()
    return {
        reference_to(task) or name_of(task): _lasting(code_hash(task, readings)) for task in tasks
    }


def to_document(code: RunningCode) -> dict[str, Any]:
    """The code as it is stored."""
    parts: dict[tuple[str, str], int] = {}
    users: dict[tuple[str, str], int] = {}
    tasks = {
        name: (
            [parts.setdefault(part, len(parts)) for part in found.components.items()],
            [users.setdefault(user, len(users)) for user in found.users.items()],
        )
        for name, found in code.items()
    }
    return {"parts": [*parts], "users": [*users], "tasks": tasks}


def from_document(document: Any) -> RunningCode:
    """Read what ``to_document`` made.

    Raises:
        SerializationError: It is something else.
    """
    try:
        parts, users = document["parts"], document["users"]
        return {
            name: CodeHash("", dict(parts[i] for i in used), dict(users[i] for i in by), {})
            for name, (used, by) in document["tasks"].items()
        }
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise SerializationError(f"not the code of a run: {error}") from None


def changed_tasks(stored: RunningCode, now: RunningCode) -> dict[str, list[str]]:
    """Name of each task whose code differs → what does, as ``changes`` tells it."""
    told = {}
    for name, code in now.items():
        before = stored.get(name)
        if before is None or before.components == code.components:
            continue
        if before.components.get(_PYTHON) != code.components[_PYTHON]:
            told[name] = ["another version of Python, so that its code cannot be compared"]
        else:
            told[name] = changes(before, code)
    return told


def _lasting(code: CodeHash) -> CodeHash:
    components = {n: part for n, part in code.components.items() if n not in code.mutable}
    return code._replace(components=components)
