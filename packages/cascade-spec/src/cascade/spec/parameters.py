"""A task's parameters: checks arguments and assigns them to names (ruling M1).

Arguments travel in two forms. *As called*: a tuple and a dict, as the user wrote them. *By name*:
one dict from parameter to value, with a tuple under the name of ``*args`` and a dict under that of
``**kwargs``; a tail call changes this form, because ``f(10)`` and ``TailCall(kwargs={"n": 9})``
must meet in one place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import Any

from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.injection import Inject, with_injections
from cascade.spec.nearby import did_you_mean

_ANY = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """The analysed signature of one callable.

    Attributes:
        signature: The signature from ``inspect``, with annotated injections as defaults;
            ``(*args, **kwargs)`` for builtins that hide theirs.
        positional: Names that take positional arguments, in order.
        keyword: Names that can be given by keyword, in order.
        var_positional, var_keyword: Name of the ``*`` and ``**`` parameter, or None.
        defaults: Name → default.
        injections: Name → Inject, for the parameters with an Inject as their default.
    """

    def __init__(self, func: Callable[..., Any], name: str) -> None:
        self.owner = name
        try:
            signature = inspect.signature(func)
        except (TypeError, ValueError):  # the first for an AsyncMock, in Python 3.11.2
            signature = _ANY
        self.signature = with_injections(signature, func, name)
        parameters = self.signature.parameters.values()
        self.positional = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self.keyword = tuple(p.name for p in parameters if p.kind in _NAMED)
        self._keywords = frozenset(self.keyword)
        self._positional_only = frozenset(self.positional) - self._keywords
        self._required = frozenset((*self.positional, *self.keyword))
        #: The number of parameters, if all of them take positional arguments; otherwise -1.
        self._all_positional = len(parameters) if len(parameters) == len(self.positional) else -1
        self.var_positional = _first(parameters, inspect.Parameter.VAR_POSITIONAL)
        self.var_keyword = _first(parameters, inspect.Parameter.VAR_KEYWORD)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.injections = {n: d for n, d in self.defaults.items() if isinstance(d, Inject)}
        for parameter in self.injections:
            if parameter not in self.keyword:
                raise DefinitionError(
                    f"'{name}': the positional-only parameter '{parameter}' cannot be injected; "
                    "move it behind the '/'"
                )

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, without the defaults.

        Raises:
            ArgumentError: They do not fit; the message names the task and its signature.
        """
        try:
            return self._named(self.signature.bind, args, kwargs)
        except TypeError as error:
            raise self._misfit(self._problem(error, kwargs)) from None

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name: ``complete(bind(…))``, most often in a tenth of the time.

        Raises:
            ArgumentError: They do not fit.
        """
        if not kwargs and len(args) == self._all_positional:
            return dict(zip(self.positional, args, strict=True))
        if self.fits_some(args, kwargs):
            named = {**self.defaults, **dict(zip(self.positional, args, strict=False)), **kwargs}
            if self._required.issubset(named):
                return named
        return self.complete(self.bind(args, kwargs))

    def check_partial(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that no call could take; missing ones are allowed."""
        if not self.fits_some(args, kwargs):
            # Raises the error that describes the fault, if there is one.
            self.bind_some(args, kwargs)

    def fits_some(self, args: Sized, kwargs: Collection[str]) -> bool:
        """Whether a call could take these, and none of them is for ``*args`` or ``**kwargs``.

        Only the number of ``args`` and the names of ``kwargs`` matter.
        """
        if not self._keywords.issuperset(kwargs):
            return False
        if not args:
            return True
        count = len(args)
        return count <= len(self.positional) and not (
            kwargs and any(name in kwargs for name in self.positional[:count])
        )

    def merge(
        self, current: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """``current`` with the new arguments in place: a self tail call (rule R5).

        ``*args`` is replaced as a whole if any of it is given; ``**kwargs`` is merged by key.

        Raises:
            ArgumentError: A name is unknown, or there are too many positional arguments.
        """
        if self.fits_some(args, kwargs):
            given = zip(self.positional, args, strict=False)
            return {**current, **dict(given), **kwargs}
        fresh = self.bind_some(args, kwargs)
        if self.var_keyword in fresh:
            kept = current.get(self.var_keyword, {})
            fresh[self.var_keyword] = {**kept, **fresh[self.var_keyword]}
        return {**current, **fresh}

    def complete(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """``named`` with the defaults filled in.

        Raises:
            ArgumentError: A parameter without a default has no value.
        """
        complete = {**self.defaults, **named}
        if not self._required.issubset(complete):
            required = dict.fromkeys((*self.positional, *self.keyword))
            missing = [name for name in required if name not in complete]
            raise self._misfit(f"missing {_listed(missing)}")
        return complete

    def spread(self, named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments to call the function with; ``named`` must be complete."""
        args = [named[name] for name in self.positional]
        if self.var_positional is not None:
            args.extend(named.get(self.var_positional, ()))
        kwargs = {n: named[n] for n in self.keyword if n not in self.positional}
        if self.var_keyword is not None:
            kwargs.update(named.get(self.var_keyword, {}))
        return args, kwargs

    def bind_some(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """As ``bind``, but arguments may be missing."""
        try:
            return self._named(self.signature.bind_partial, args, kwargs)
        except TypeError as error:
            raise self._misfit(self._problem(error, kwargs)) from None

    def _named(
        self,
        bind: Callable[..., inspect.BoundArguments],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> dict[str, Any]:
        surplus = self.var_keyword
        if surplus is None or self._positional_only.isdisjoint(kwargs):
            return bind(*args, **kwargs).arguments
        # A keyword may have the name of a positional-only parameter. inspect refuses it if that one
        # has a default (up to 3.12), or counts the parameter as given (3.13).
        named = bind(
            *args, **{n: v for n, v in kwargs.items() if n not in self._positional_only}
        ).arguments
        rest = {*named.get(surplus, ()), *self._positional_only}
        named[surplus] = {n: v for n, v in kwargs.items() if n in rest}
        return named

    def _problem(self, error: TypeError, kwargs: Mapping[str, Any]) -> str:
        """The fault that ``inspect`` reports, which is one only, and all unknown names."""
        problem = str(error)
        unknown = [str(name) for name in kwargs if name not in self._keywords]
        if self.var_keyword is not None or not self._positional_only.isdisjoint(unknown):
            unknown = []  # no name is unknown, or the kind of a parameter is wrong
        if not unknown:
            return problem
        free = [name for name in self.keyword if name not in kwargs]
        names = ", ".join(f"'{name}'{did_you_mean(name, free)}" for name in unknown)
        what = "an unexpected keyword argument" if len(unknown) == 1 else "unexpected arguments"
        surplus = f"got {what} {names}"
        return surplus if problem.startswith("got an unexpected") else f"{surplus}, and {problem}"

    def _misfit(self, problem: str) -> ArgumentError:
        return ArgumentError(
            f"task '{self.owner}': {problem}; its signature is {self.owner}{self.signature}"
        )


def _first(parameters: Any, kind: inspect._ParameterKind) -> str | None:
    return next((p.name for p in parameters if p.kind is kind), None)


def _listed(names: Sequence[str]) -> str:
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"the argument{'s' if len(names) > 1 else ''} {quoted}"
