"""The data of a node: its operation, its arguments, and its place in the source.

LazyResult adds the methods for users. Code that only reads or recognises nodes needs no more than
this module, and can therefore lie below the modules that make nodes.

Terms:

- *operation*: the callable of the node, an Operation; a Task for everything that users write;
- *dependencies*: the lazy values among the arguments, found when the call was made (rule R2);
- *number*: position in the order of creation. A node can only be called after its arguments exist,
  so ascending numbers are a topological order of the data edges (edges added later by ``run_if``
  and ``after`` may point to younger nodes).
"""

from __future__ import annotations

import itertools
import os
from types import CodeType
from typing import Any

from cascade.spec.callsite import CallSite, line_of
from cascade.spec.errors import LazyUseError
from cascade.spec.operation import Operation
from cascade.spec.policies import Policies
from cascade.spec.shown import notebook_view

#: What a run looks at before the call of a node: its literals, which are unwrapped; its resources;
#: the capacities that it takes; that its value comes from the surroundings of the run; that it is a
#: map that reads its columns item by item; and that its first argument is given the run, ``.run``.
LITERALS, RESOURCES, LIMITS, SOURCE, WINDOWS, TOLD = 1, 2, 4, 8, 16, 32

next_number = itertools.count(1).__next__  # in events 0 stands for no node
#: The ``kwargs`` of all calls without any; one shared object that never changes.
NO_KWARGS: dict[str, Any] = {}


class LazyValue:
    """A node as data: the base of LazyResult, the class that programs use.

    Names without an underscore are for users; names with one are shared by Cascade's own layers.
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_dependencies",
        "_id",
        "_lasti",
        "_plain",
        "_policies",
        "_special",
        "args",
        "kwargs",
        "number",
        "task",
    )

    task: Operation
    #: Positional arguments. A container that held lazy values is replaced by one lazy value.
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: The lazy values among args and kwargs, in order, repeated where they are used twice.
    _dependencies: tuple[LazyValue, ...]
    #: What a run has to look at before the call: LITERALS, RESOURCES, LIMITS, SOURCE, as far as the
    #: node has them; mostly 0.
    _special: int
    #: Whether the node is just a call of a plain operation: nothing special, no policies. The fast
    #: lane tests this twice per node.
    _plain: bool
    #: Set by ``run_if``, ``after`` and similar methods; None if none was called.
    _policies: Policies[Any] | None
    #: Position in the order of creation, over all lazy values of the process.
    number: int
    #: Of an item of a map: its position in the list. A subclass has it; others cost nothing.
    _index: int | None = None
    #: Whether the value comes from outside of the program, and may be a secret.
    _from_outside = False

    # Seven parameters: an object that groups some of them would be one more for each node.
    def __init__(
        self,
        task: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependencies: tuple[LazyValue, ...],
        special: int,
        code: CodeType,
        lasti: int,
    ) -> None:
        """Make a node; ``code`` and ``lasti`` are those of the user's frame, see ``callsite``."""
        # Task.__call__ sets the same attributes by itself, to save a call.
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self._dependencies = dependencies
        self._special = special
        self._plain = task.plain and not special
        self._policies = None
        self._code = code
        self._lasti = lasti
        self.number = next_number()

    @property
    def name(self) -> str:
        """The name of the operation in errors, events and drawings."""
        return self.task.name

    @property
    def callsite(self) -> CallSite:
        """File and line where this lazy value was made."""
        return CallSite(self._code.co_filename, line_of(self._code, self._lasti))

    @property
    def id(self) -> str:
        """A unique id, made at first use and stable from then on."""
        try:
            return self._id
        except AttributeError:
            self._id: str = os.urandom(16).hex()
            return self._id

    @property
    def _uuid(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<lazy {self.name} at {self.callsite}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The picture of its graph, for notebooks. Nothing is run."""
        return notebook_view(self)


def number_of(lazy: LazyValue | None) -> int:
    """The number of a node in events; 0 if there is none."""
    return 0 if lazy is None else lazy.number


def alike(a: Any, b: Any) -> bool:
    """``a == b``, but with lazy values anywhere inside compared by identity.

    ``==`` of two lazy values is a node, whose truth value cannot be asked for before a run. So an
    error of that kind says that two different ones were met.
    """
    try:
        return bool(a == b)
    except LazyUseError:
        return False
