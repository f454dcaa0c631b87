"""Programs: targets as they are stored, for other processes; and runs that are to be created.

A program is a record of the target (``cascade.graph.records``). It has the keys of the nodes, since
keys of equal nodes cannot be made again from the nodes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cascade.graph.codec import Codec
from cascade.graph.naming import ROOT, NodeKey, node_keys
from cascade.graph.records import GraphRecord, graph_record, read_record
from cascade.graph.signatures import Signature, difference, signature_of
from cascade.runtime.durable.code import identity
from cascade.runtime.durable.keys import Keys
from cascade.spec.errors import RunConflictError, SerializationError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.run_rows import Loaded, NewRun, RunRecord
from cascade.spec.wording import short

#: What a program is signed for.
_PURPOSE = b"program"
#: The start of a reference to the main module. In another process that is another module.
_OF_MAIN = b'"__main__:'
#: Nodes from which on making the record of a target takes longer than a look into the store.
_LARGE: Final = 1_000

NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})


class Program(NamedTuple):
    """The target of a run, named.

    Attributes:
        target: The target.
        keys: The keys of its nodes.
        params: The values of its parameters.
    """

    target: LazyResult[Any]
    keys: Keys
    params: Mapping[str, Any]


class Wanted(NamedTuple):
    """A run that is asked for.

    Attributes:
        new: As it is created, if there is none with its id; see ``is_large``.
        program: Its target.
        signature: The identity of that (D1).
        is_large: Whether ``new`` lacks the record of the target, because a look into the store
            takes less time than making one; ``completed`` adds it.
    """

    new: NewRun
    program: Program
    signature: Signature
    is_large: bool


def wanted(
    codec: Codec,
    run_id: str,
    target: LazyResult[Any],
    params: Mapping[str, Any],
    *,
    priority: int = 0,
    at: float | None = None,
    portable: bool = False,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Wanted:
    """A run of ``target``. Its nodes get their keys, which takes some 2 µs each.

    Args:
        portable: Refuse a target that other processes cannot read.
        options: Those for the processes that take it over; see ``stored_options``.

    Raises:
        NotStorableError: A value in ``params`` has no stored form.
        SerializationError: ``portable``, and other processes could not read the target.
    """
    named = node_keys(target, context=ROOT)
    keys = Keys(named)
    signature = signature_of(named)
    is_large = len(named) >= _LARGE and not portable
    new = NewRun(
        run_id,
        target.name,
        signature.digest,
        None if is_large else _program_if_any(codec, target, named, portable),
        codec.dumps(dict(params)),
        identity(signature, keys, options),
        priority,
        at,
    )
    return Wanted(new, Program(target, keys, params), signature, is_large)


def completed(codec: Codec, wanted: Wanted) -> NewRun:
    """A wanted run with the record of its target, if that has a form; some 1 µs for each node."""
    if not wanted.is_large:
        return wanted.new
    target, keys, _ = wanted.program
    return wanted.new._replace(program=_program_if_any(codec, target, keys.lasting))


def check_same(codec: Codec, wanted: Wanted, run: RunRecord, loaded: Loaded) -> None:
    """Refuse a stored run with the id of a wanted one, but another target or parameters (D1).

    Raises:
        RunConflictError: It is such a run.
    """
    given = wanted.signature
    if run.root != given.digest:
        stored = Signature.from_bytes(loaded.code) if loaded.code else None
        how = "" if stored is None else f": {difference(stored, given)}"
        raise RunConflictError(
            f"run {run.run_id!r} in the store is of another target, '{run.target}'{how}; "
            "give this one another run_id, or delete that run",
            run.run_id,
        )
    if loaded.params != wanted.new.params and not run.trimmed:
        raise RunConflictError(
            f"run {run.run_id!r} in the store has other parameters: "
            f"{short(codec.loads(loaded.params))}; give this one another run_id",
            run.run_id,
        )


def read_program(codec: Codec, loaded: Loaded) -> Program:
    """The target of a stored run.

    Raises:
        TaskNotImportedError: It is in a module that is neither imported nor allowed.
        SerializationError: The run has no program, or it cannot be read in this process.
    """
    run = loaded.run
    body = stored_target(codec, loaded)
    if body is None:
        raise SerializationError(
            f"run {run.run_id!r} has no stored target: a task or an argument of '{run.target}' "
            "cannot be found from another process, such as a task in a function or in __main__; "
            f"run the same target again with run_id={run.run_id!r}"
        )
    record = read_record(codec, body)
    if not isinstance(record, GraphRecord):
        raise SerializationError(f"the target of run {run.run_id!r} in the store is damaged")
    return Program(record.target, Keys(record.keys), codec.loads(loaded.params))


def stored_target(codec: Codec, loaded: Loaded) -> bytes | None:
    """The record of the target of a stored run; None if it has none.

    Raises:
        SerializationError: It is signed with another key.
    """
    return None if loaded.program is None else codec.unseal(loaded.program, _PURPOSE)


def _program_if_any(
    codec: Codec,
    target: LazyResult[Any],
    keys: Mapping[LazyResult[Any], NodeKey],
    portable: bool = False,
) -> bytes | None:
    """The target for other processes; None if they could not read it.

    Raises:
        SerializationError: ``portable``, and they could not.
    """
    try:
        return _program_of(codec, target, keys)
    except SerializationError:
        if portable:
            raise
        return None


def _program_of(
    codec: Codec, target: LazyResult[Any], keys: Mapping[LazyResult[Any], NodeKey]
) -> bytes:
    """The target for other processes.

    Raises:
        SerializationError: They could not read it.
    """
    body = graph_record(target, keys, lazies=[*keys])
    if _OF_MAIN in body:
        raise SerializationError(
            f"target '{target.name}' needs the module __main__, which is another one in another "
            "process; move its tasks and classes to a module that can be imported"
        )
    return codec.seal(body, _PURPOSE)
