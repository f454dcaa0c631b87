"""KnownValues: the values of nodes that caches have, or that follow from these, before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.graph.values import OPERATOR_NAMES
from cascade.spec.blueprint import Literal
from cascade.spec.containers import GATHER
from cascade.spec.errors import CascadeError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.params import Source
from cascade.spec.task import Task


class UnknownValueError(Exception):
    """The value of a node is known only when it has run."""

    def __init__(self, node: LazyResult[Any]) -> None:
        self.node = node


class KnownValues:
    """Finds the values of nodes without calling any task.

    Args:
        params: Those of the run.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        #: Node → function that loads its value, for hits.
        self.hits: dict[LazyResult[Any], Any] = {}
        self._values: dict[LazyResult[Any], Any] = {}

    def arguments(self, node: LazyResult[Any]) -> Mapping[str, Any]:
        """The arguments of a call, by name.

        Raises:
            UnknownValueError: One of them is not known.
        """
        task = node.task
        assert isinstance(task, Task)
        args = [self.value(value) for value in node.args]
        kwargs = {name: self.value(value) for name, value in node.kwargs.items()}
        return task.parameters.named(args, kwargs)

    def value(self, value: Any) -> Any:
        """An argument with the value of a lazy one.

        Raises:
            UnknownValueError: It is not known.
        """
        if isinstance(value, Literal):
            return value.value
        if not isinstance(value, LazyResult):
            return value
        if value not in self._values:
            self._values[value] = self._found(value)
        return self._values[value]

    def _found(self, node: LazyResult[Any]) -> Any:
        if node in self.hits:
            found, value = self.hits[node]()
            if found:
                return value
        elif node._policies is None or not node._policies.conditions:
            try:
                if isinstance(node, Source):
                    return node.read(self._params)
                task = node.task
                if type(node) is LazyResult and (task is GATHER or task.func in OPERATOR_NAMES):
                    return task.func(*[self.value(argument) for argument in node.args])
            except CascadeError:
                pass
        raise UnknownValueError(node)
