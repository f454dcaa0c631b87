"""Versions of tasks: the contract of their arguments, and the way from one to the next (D9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from cascade.spec.errors import DefinitionError
from cascade.spec.wording import short

#: Stored arguments by name → those for the present version of a task.
Migration: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]


class Versioned:
    """The part of a task that belongs to its version.

    Attributes:
        version: Names the contract of the arguments in durable runs; None for none.
        migrations: Earlier version → the function that ``migrate`` was given for it.
    """

    name: str
    version: str | None
    migrations: dict[str | None, Migration]

    def migrate(self, version: str | None) -> Callable[[Migration], Migration]:
        """Declare the function that migrates arguments stored for an earlier version (D9).

        >>> from cascade.spec.task import task
        >>> @task(version="2")
        ... def greet(name: str, polite: bool) -> str:
        ...     return f"Dear {name}" if polite else f"Hi {name}"
        >>> @greet.migrate("1")
        ... def _(args):
        ...     return {**args, "polite": True}

        The function gets the arguments by name, without injected ones, and returns those for the
        task as it is now. An argument that is still to be computed is a lazy value.

        Args:
            version: The version that the task had when they were stored; None for none.

        Raises:
            DefinitionError: It is the task's own version, or there is a function for it already.
        """
        self.check_version(version)
        if version == self.version or version in self.migrations:
            is_now = version == self.version
            raise DefinitionError(
                f"@{self.name}.migrate({version!r}): "
                + ("that is the version now" if is_now else "there is a function for it already")
            )

        def declare(function: Migration) -> Migration:
            self.migrations[version] = function
            return function

        return declare

    def check_version(self, version: Any) -> None:
        """Refuse a version that is no text.

        Raises:
            DefinitionError: It is not.
        """
        if version is not None and not (isinstance(version, str) and version):
            raise DefinitionError(
                f"task '{self.name}': a version is a text such as '2', or None, but is "
                f"{short(version)}"
            )
