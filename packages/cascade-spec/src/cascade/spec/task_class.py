"""``Task``: a function whose calls build a lazy graph instead of running."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Generic, Literal, Never, ParamSpec, Self, TypeAlias, TypeVar, overload

from cascade.spec.blueprint import TailCall
from cascade.spec.callables import gives_coroutine, own_name
from cascade.spec.containers import ATOMS
from cascade.spec.declaration_checks import check_options, refuse_injections, refuse_unfit, supplied
from cascade.spec.dropped_calls import dropped_tails, refuse_dropped, refuse_dropped_calls
from cascade.spec.fallbacks import NOT_GIVEN, Errors, Joins, NotGiven
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, settle
from cascade.spec.lazy_value import NO_KWARGS, RESOURCES, next_number
from cascade.spec.mapping import mapped, unnamed_in_map
from cascade.spec.methods import BoundTask, binds, refuse_hidden_class
from cascade.spec.operation import Operation
from cascade.spec.parameters import Parameters
from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.versions import Versioned
from cascade.spec.windows import windowed

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

#: The thread of a plain function: see ``task``.
Mode: TypeAlias = Literal["auto", "blocking", "inline", "process"]

#: Most shapes of calls that a task remembers as checked; with ``*args`` there is no end of them.
_SHAPES_KEPT = 64
_new = object.__new__


class Task(Operation, Versioned, Generic[P, R]):
    """A function that can be a node of a graph.

    Attributes:
        func: The function as written; call it directly to run it at once.
        name: Its name in events, errors and drawings.
        is_async: Its calls give coroutines.
        mode: Where a plain function is called.
        nout: Number of values that it returns, so that ``a, b = f(x)`` may unpack them.
        may_block: Whether a coroutine function may block the event loop, or for how many
            seconds.
        policies: The defaults of its calls' policies (R10).
        parameters: Its analysed signature.
        derived: Results that other layers compute once per task, such as its blueprint. They
            live as long as the task.
    """

    structural = False
    is_light = True
    func: Callable[P, Any]

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        *,
        mode: Mode = "auto",
        nout: int | None = None,
        may_block: bool | float = False,
        policies: CallPolicies = PLAIN_CALLS,
        version: str | None = None,
    ) -> None:
        is_class_method, is_static = isinstance(func, classmethod), isinstance(func, staticmethod)
        if is_class_method or is_static:
            func = func.__func__  # type: ignore[attr-defined]
        refuse_unfit(func, name)
        super().__init__(func, name or own_name(func), gives_coroutine(func))
        check_options(self.name, self.is_async, mode, nout, may_block)
        self.check_version(version)
        # Not the function's own attributes: one called "map" would hide the method.
        functools.update_wrapper(self, func, updated=())
        self.__qualname__ = getattr(func, "__qualname__", self.name)  # a partial has none
        self.mode = mode
        self.plain = self.plain and mode == "auto"
        if mode == "process":
            self.is_light = False
        self.nout = nout
        self.may_block = may_block
        self.version = version
        self.migrations = {}
        self.policies = policies
        self.parameters = Parameters(func, self.name)
        refuse_injections(self.name, mode, self.parameters)
        #: Parameter → default that a call hands over like an argument: a resource to inject, or a
        #: lazy value, also in a container.
        self.supplied = supplied(self.parameters)
        self._supplies_resources = all(type(v) is Inject for v in self.supplied.values())
        self.derived: dict[str, Any] = {}
        # Shape of a call that fits → arguments to supply to it. Most calls of a task have the same
        # few shapes, and binding takes some microseconds.
        self._shapes: dict[Any, dict[str, Any]] = {}
        #: The shapes that are just a number of positional arguments and need no injection.
        self._counts: set[int] = set()
        #: The shapes that need resources and nothing else → the keyword arguments of such calls,
        #: which never change.
        self._given: dict[int, dict[str, Any]] = {}
        #: Forms of tail calls that fit: the number of positional arguments, and names.
        self._tails: set[Any] = set()
        #: Statements of its code that may drop a tail call; their names have no value yet.
        self._dropped = dropped_tails(func)
        #: The object that it is bound to: that of the attribute, the class, or none.
        self._binds = "class" if is_class_method else not is_static and binds(func)
        #: The class in whose body it stands.
        self.owner: type | None = None
        if self._dropped:
            self._dropped = refuse_dropped(self, self._dropped)
        #: Whether its code was searched for calls of tasks that are dropped.
        self._searched = False

    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> LazyResult[R]: ...
    @overload  # with lazy values among them; docs/typing.md has ways to check these as well
    def __call__(self, /, *args: Any, **kwargs: Any) -> LazyResult[R]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> LazyResult[R]:
        """Make a node that will call the function; nothing runs yet.

        Any argument may be lazy, also inside lists, tuples, dicts and sets (rule R2).

        Raises:
            ArgumentError: The arguments do not fit the signature (a TypeError).
            DefinitionError: The task's code drops a tail call, or the lazy value of a call: a
                ``return`` is missing.

        Cost: about a microsecond.
        """
        frame = sys._getframe(1)
        if kwargs or len(args) not in self._counts:
            if not kwargs and len(args) in self._given:
                return self._make_given(args, frame.f_code, frame.f_lasti)
            return self.make(args, kwargs, frame.f_code, frame.f_lasti)
        # The commonest call, inlined: make(), settle() and LazyResult() would take twice as long,
        # because of the calls between them.
        lazies = 0
        for value in args:
            kind = type(value)
            if kind is LazyResult:
                lazies += 1
            elif kind not in ATOMS:
                return self.make(args, kwargs, frame.f_code, frame.f_lasti)
        lazy: LazyResult[R] = _new(LazyResult)
        lazy.task = self
        lazy.args = args
        lazy.kwargs = NO_KWARGS
        if not lazies:
            lazy._dependencies = ()
        elif lazies == len(args):
            lazy._dependencies = args
        else:
            lazy._dependencies = tuple([v for v in args if type(v) is LazyResult])
        lazy._special = 0
        lazy._plain = self.plain
        lazy._policies = None
        lazy._code = frame.f_code
        lazy._lasti = frame.f_lasti
        lazy.number = next_number()
        return lazy

    def _make_given(self, args: tuple[Any, ...], code: CodeType, lasti: int) -> LazyResult[R]:
        """``__call__`` for a call that is given resources."""
        lazies = 0
        for value in args:
            kind = type(value)
            if kind is LazyResult:
                lazies += 1
            elif kind not in ATOMS:
                return self.make(args, NO_KWARGS, code, lasti)
        lazy: LazyResult[R] = _new(LazyResult)
        lazy.task = self
        lazy.args = args
        lazy.kwargs = self._given[len(args)]
        # Never ``args`` itself, which means that there are no other arguments.
        lazy._dependencies = tuple([v for v in args if type(v) is LazyResult]) if lazies else ()
        lazy._special = RESOURCES
        lazy._plain = False
        lazy._policies = None
        lazy._code = code
        lazy._lasti = lasti
        lazy.number = next_number()
        return lazy

    def shares_kwargs(self, node: LazyResult[Any]) -> bool:
        """Whether the keyword arguments of ``node`` are those of all its calls with resources.

        If so, no other argument of such a call is a marker.
        """
        return self._given.get(len(node.args)) is node.kwargs

    def make(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
    ) -> LazyResult[R]:
        """``self(*args, **kwargs)`` as if written at the place of ``code`` and ``lasti``."""
        injected = self._shapes.get((len(args), *kwargs) if kwargs else len(args))
        if injected is None:
            injected = self._check(args, kwargs)
        if injected and not self._supplies_resources:
            kwargs, injected = {**kwargs, **injected}, NO_KWARGS
        args, kwargs, dependencies, special = settle(args, kwargs, code, lasti)
        if injected:
            kwargs, special = {**kwargs, **injected}, special | RESOURCES
            if dependencies is args:  # which means that there is nothing else
                dependencies = (*args[:-1], *args[-1:])
        lazy: LazyResult[R] = LazyResult(self, args, kwargs, dependencies, special, code, lasti)
        if self.policies is not PLAIN_CALLS:
            lazy._begin_with(self.policies)
        return lazy

    def with_injected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """``kwargs`` with the resources that a call with these arguments is given.

        Raises:
            ArgumentError: The arguments do not fit the signature.
        """
        injected = self._shapes.get((len(args), *kwargs) if kwargs else len(args))
        if injected is None:
            injected = self._check(args, kwargs)
        return {**kwargs, **injected} if injected else kwargs

    @overload
    def tail(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload  # some arguments, or lazy ones
    def tail(self, /, *args: Any, **kwargs: Any) -> R: ...
    def tail(self, /, *args: Any, **kwargs: Any) -> R:
        """Return this from a task to continue as this task, without a stack (rule R5).

        In the task's own body it makes a ``TailCall`` to itself: arguments left out keep their last
        value. In another task it switches to this one: arguments left out take their defaults.

        The declared type is the task's result, so that ``return f.tail(…)`` fits the annotation.

        Raises:
            ArgumentError: The signature does not take an argument.
            DefinitionError: The task's own code drops a tail call: a ``return`` is missing. Or it
                stands under ``@classmethod``, from Python 3.13 on.
        """
        if ((len(args), *kwargs) if kwargs else len(args)) not in self._tails:
            self._refuse_dropped()
            refuse_hidden_class(self)
            self.parameters.check_partial(args, kwargs)
            if len(self._tails) < _SHAPES_KEPT:
                self._tails.add((len(args), *kwargs) if kwargs else len(args))
        # The same as TailCall() without its checks: one is made in each step of a loop.
        tail: Any = _new(TailCall)
        tail.args = args
        tail.kwargs = kwargs
        tail.target_blueprint_id = None
        tail.target = self
        return tail  # type: ignore[no-any-return]

    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: bool = False,
        skipped: Any = NOT_GIVEN,
        catch: tuple[Errors, Any] | None = None,
        window: int | None = None,
        fold: Task[..., A],
        initial: Any = NOT_GIVEN,
        **iterables: Any,
    ) -> LazyResult[A]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: bool = False,
        skipped: Any = NOT_GIVEN,
        catch: tuple[Errors, Any] | None = None,
        window: int | None = None,
        fold: Callable[[A, R], A],
        initial: Any = NOT_GIVEN,
        **iterables: Any,
    ) -> LazyResult[A]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: Literal[False] = False,
        skipped: NotGiven = NOT_GIVEN,
        catch: None = None,
        window: int | None = None,
        **iterables: Any,
    ) -> MappedLazyResult[R]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: bool,
        skipped: NotGiven = NOT_GIVEN,
        catch: None = None,
        window: int | None = None,
        **iterables: Any,
    ) -> MappedLazyResult[R | Exception]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: Literal[False] = False,
        skipped: S,
        catch: None = None,
        window: int | None = None,
        **iterables: Any,
    ) -> MappedLazyResult[R | S]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: Literal[False] = False,
        skipped: NotGiven = NOT_GIVEN,
        catch: tuple[Errors, Task[..., S]],
        window: int | None = None,
        **iterables: Any,
    ) -> MappedLazyResult[R | S]: ...
    @overload
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: bool = False,
        skipped: Any = NOT_GIVEN,
        catch: tuple[Errors, Any] | None = None,
        window: int | None = None,
        **iterables: Any,
    ) -> MappedLazyResult[Any]: ...
    def map(
        self,
        /,
        *unnamed: Never,
        return_exceptions: bool = False,
        skipped: Any = NOT_GIVEN,
        catch: tuple[Errors, Any] | None = None,
        window: int | None = None,
        fold: Callable[..., Any] | None = None,
        initial: Any = NOT_GIVEN,
        **iterables: Any,
    ) -> Any:
        """Call the task once per item, over iterables side by side, as one lazy list (R8).

        Args:
            unnamed: Not allowed: each iterable needs the name of its parameter.
            return_exceptions: Put the error of an item that fails, after its retries, into the list
                in place of its value, and go on. This applies to Exceptions only; cancelling the
                run still cancels the map.
            skipped: Put this into the list in place of items that are skipped, as ``or_else`` does
                for a single lazy value (M26). Without it, one skipped item skips the whole list.
            catch: ``(errors, handler)``: for items that fail with one of ``errors``, put that of
                ``handler`` into the list, as ``LazyResult.catch`` does (M27). Of the three options
                this comes first, then ``skipped``; ``return_exceptions`` gets all other errors.
            window: Read the iterables item by item, during the run, with at most so many items
                under way (M29). They may then be async iterators, and endless.
            fold: A task or a plain function, called with the value so far and that of an item, in
                the order of the items: the map has its last value in place of a list. A function
                costs less, and has to be quick. The window is 64 by default.
            initial: The value that the fold begins with; that of the first item by default.
            iterables: Parameter → iterable, or a lazy value that will be one, all of the same
                length; ``cs.literal(x)`` is the same for every item. Another map hands over its
                items one by one (R8). Strings are refused. Iterables are read in step, so an
                endless iterator beside a list is an error at once. Endless iterators alone are
                refused if they are from ``itertools``; others are read until memory runs out (M17).

        Raises:
            ArgumentError: A parameter is unknown or missing or has the name of an option, an
                iterable has no name or is not iterable, or lengths differ. The run raises the last
                two for lazy iterables.
        """
        if unnamed:
            raise unnamed_in_map(self, unnamed)
        self._refuse_dropped()
        joins = Joins(return_exceptions, skipped, catch)
        if window is None and fold is None and initial is NOT_GIVEN:
            return mapped(self, iterables, joins)
        return windowed(self, iterables, joins, window, fold, initial)

    def __get__(self, instance: Any, owner: Any = None) -> Self:
        """The task of an object, ``obj.work``: a BoundTask.

        For checkers it is the task itself: for them, an attribute that is declared in a class as a
        Task, and set in ``__init__``, would be bound, too.
        """
        found: Any = self
        if self._binds == "class":
            found = BoundTask(self, type(instance) if owner is None else owner)
        elif self._binds and instance is not None:
            found = BoundTask(self, instance)
        return found  # type: ignore[no-any-return]

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner

    @property
    def __isabstractmethod__(self) -> bool:
        return bool(getattr(self.func, "__isabstractmethod__", False))

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __reduce__(self) -> str:
        # Pickled by reference, as functions are: the other process must be able to import it.
        return self.__qualname__

    def _refuse_dropped(self) -> None:
        if self._dropped:
            self._dropped = refuse_dropped(self, self._dropped)
        if not self._searched:
            refuse_dropped_calls(self)
            self._searched = True

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        self._refuse_dropped()
        named = self.parameters.bind(args, kwargs)
        injected = {n: d for n, d in self.supplied.items() if n not in named}
        if len(self._shapes) < _SHAPES_KEPT:
            self._shapes[(len(args), *kwargs) if kwargs else len(args)] = injected
            if not kwargs and self.policies is PLAIN_CALLS:
                if not injected:
                    self._counts.add(len(args))
                elif self._supplies_resources:
                    self._given[len(args)] = injected
        return injected
