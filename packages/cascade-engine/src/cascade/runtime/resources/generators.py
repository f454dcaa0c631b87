"""Generators: plain providers whose steps are made by the code that uses the resource."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from cascade.runtime.diagnostics.error_notes import add_note
from cascade.runtime.resources import faults
from cascade.spec.resource import ResourceDefinition


def not_opened(definition: ResourceDefinition[Any], failure: BaseException) -> BaseException:
    """The error of a provider that has raised ``failure`` before its ``yield``."""
    if isinstance(failure, StopIteration):
        found: BaseException = faults.yielded_nothing(definition)
        found.__suppress_context__ = True
        return found
    add_note(failure, f"while opening the resource '{definition.name}'")
    if isinstance(failure, asyncio.CancelledError):
        return faults.cancelled_itself(definition, failure)
    return failure


def closed(
    definition: ResourceDefinition[Any], generator: Any, context: Context
) -> BaseException | None:
    """Close a resource; the error of that."""
    try:
        context.run(next, generator)
    except StopIteration:
        return None
    except BaseException as error:
        add_note(error, f"while closing the resource '{definition.name}'")
        if isinstance(error, asyncio.CancelledError):
            return faults.cancelled_itself(definition, error)
        return error
    twice = faults.yielded_twice(definition)
    try:
        context.run(generator.close)
    except BaseException as error:
        twice.__cause__ = error
    return twice
