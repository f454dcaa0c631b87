"""New code for stored runs: the code a run began with is stored, and compared on resume (D9)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from cascade.graph.codec import Codec
from cascade.graph.references import tasks_of
from cascade.graph.running_code import (
    RunningCode,
    changed_tasks,
    from_document,
    running_code,
    to_document,
)
from cascade.graph.signatures import Signature
from cascade.graph.wiring import wire
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.keys import Keys
from cascade.runtime.durable.rows import CODE
from cascade.spec.errors import CodeChangedError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.run_rows import Loaded

_log = logging.getLogger("cascade.durable")
#: Most changes that a message tells, of each task.
_SHOWN: Final = 3
#: Name of a task → what has changed in its code.
Changes: TypeAlias = Mapping[str, Sequence[str]]


def identity(signature: Signature, keys: Keys, options: Mapping[str, Any]) -> bytes:
    """What a run is a run of, the code of its tasks, and its options, as they are stored.

    They are ``NewRun.code``.
    """
    document = json.loads(signature.to_bytes())
    if options:
        document["options"] = dict(options)
    document["code"] = to_document(running_code(tasks_of(keys.lasting)))
    return json.dumps(document, separators=(",", ":")).encode()


def stored_code(codec: Codec, loaded: Loaded) -> RunningCode | None:
    """The code of a run's tasks when it began, or when it was last computed again.

    Raises:
        SerializationError: It is damaged, or signed with another key.
    """
    for record in loaded.records:
        if record.kind == CODE:
            return from_document(json.loads(codec.unseal(record.body, CODE.encode())))
    document = json.loads(loaded.code).get("code") if loaded.code else None
    return None if document is None else from_document(document)


def code_changes(stored: RunningCode | None, target: LazyResult[Any], journal: Journal) -> Changes:
    """The tasks of unfinished nodes of ``target`` whose code is not the stored one."""
    if stored is None:
        return {}
    changed = changed_tasks(stored, running_code(tasks_of(journal.keys.lasting)))
    if not changed or journal.has(target):
        return {}
    wiring = wire(target, journal.has)
    unfinished = (node for node in (target, *wiring.users) if not journal.has(node))
    left = running_code(tasks_of(unfinished))
    return {name: how for name, how in changed.items() if name in left}


def refuse_changed(run_id: str, changed: Changes) -> None:
    """Refuse to go on with a run whose code has changed.

    Raises:
        CodeChangedError: It has.
    """
    for task in changed:
        raise CodeChangedError(
            f"run {run_id!r} began with other code, and on_code_change='refuse': "
            f"{_told(changed)}. Let a process with the old code finish it, or go on with "
            "on_code_change='warn' or 'recompute'",
            task.partition(":")[2] or task,
        )


def warn_of_changed(run_id: str, changed: Changes) -> None:
    """Warn, once, that a run goes on with new code."""
    _log.warning("run %r goes on with new code: %s", run_id, _told(changed))


def tell_of_recomputing(run_id: str, changed: Changes) -> None:
    """Log, once, that the values of the old code of a run are computed again."""
    _log.info("run %r computes again what needs new code: %s", run_id, _told(changed))


def _told(changed: Changes) -> str:
    tasks = []
    for task, how in changed.items():
        more = f", and {len(how) - _SHOWN} more" if len(how) > _SHOWN else ""
        tasks.append(f"task {task} ({'; '.join(how[:_SHOWN])}{more})")
    return ", ".join(tasks)
