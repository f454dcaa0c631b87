"""The options of a run, defined once: names, types, texts, defaults, and the code that reads them.

Options have two forms. Users write keywords, which checkers and editors know by a ``TypedDict``::

    def run(self, target: Any, **options: Unpack[RunOptions]) -> Any: ...

Inside, ``settings`` turns them into a frozen dataclass, which has the texts and the defaults.
``takes`` gives the function the signature and the docstring that ``help()`` and notebooks show.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from cascade.spec.checks import check_count, check_flag, check_priority, check_seconds
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.params import check_param_names
from cascade.spec.wording import short

#: Default of the seconds that closing a resource may take.
TEARDOWN_TIMEOUT = 60.0
#: How often a run of a store is claimed without any progress before it is dead (D3).
MOST_RECOVERIES = 100
#: Least seconds between two StepsMade events of a run.
STEP_INTERVAL = 0.1

#: What a durable run waits for (D4).
Durability: TypeAlias = Literal["sync", "async", "exit"]
#: What becomes of a durable run whose code has changed (D9).
OnCodeChange: TypeAlias = Literal["warn", "refuse", "recompute"]

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")


class ProgramOptions(TypedDict, total=False):
    """Options of the runs of a program, ``engine.compile(target, deadline=5)``; see RunSettings."""

    fail_fast: bool
    deadline: float | None
    max_steps: int | None
    max_rounds: int | None
    priority: int


class ResumeOptions(ProgramOptions, total=False):
    """Options of a run of the store, ``engine.resume("order-17")``; see RunSettings."""

    use_vm: bool


class RunOptions(ResumeOptions, total=False):
    """Options of one run, ``engine.run(target, deadline=5)``; see RunSettings."""

    run_id: str | None
    late_params: Iterable[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The options of one run.

    Attributes:
        use_vm: Compile the target and execute the blueprint, instead of running the graph. This
            changes the speed, never the result.
        fail_fast: Whether the first error ends the run. If false, every node that does not need a
            failed one still runs, and an ExceptionGroup of all errors is raised at the end.
        deadline: Seconds that the run may take. Running plain functions are then abandoned,
            because they cannot be stopped (M8).
        max_steps: Most steps of all loops of the run: tail calls and returned lazy values, one for
            each, whatever is inside of it (M20).
        max_rounds: The same limit for each node: a node that loops for ever ends the run, however
            many others loop a little. A retried attempt starts at 0 again.
        priority: Added to the priorities of the run's nodes, which compete with those of the
            engine's other runs for capacities and worker threads (M24).
        run_id: Names the run in events and in ``engine.runs()``; random if left out. Two runs of
            one engine cannot have the same id at the same time. With a store, the run is kept
            there under this id, and another process can go on with it.
        late_params: Names of ``Param`` nodes that tasks make and return during the run. They cannot
            be found before, so ``params`` may have them only if they are named here (M22).
    """

    use_vm: bool = False
    fail_fast: bool = True
    deadline: float | None = None
    max_steps: int | None = None
    max_rounds: int | None = None
    priority: int = 0
    run_id: str | None = None
    late_params: Iterable[str] = ()

    def __post_init__(self) -> None:
        check_flag("use_vm", self.use_vm)
        check_flag("fail_fast", self.fail_fast)
        if self.deadline is not None:
            check_seconds("deadline", self.deadline)
        if self.max_steps is not None:
            check_count("max_steps", self.max_steps)
        if self.max_rounds is not None:
            check_count("max_rounds", self.max_rounds)
        check_priority("priority", self.priority)
        if self.run_id is not None and not (isinstance(self.run_id, str) and self.run_id):
            raise ArgumentError(f"run_id must be non-empty text, but is {short(self.run_id)}")
        if self.late_params != ():
            names = check_param_names(self.late_params, "run", "late_params")
            object.__setattr__(self, "late_params", names)


#: The defaults.
DEFAULTS = RunSettings()


def new_id() -> str:
    """A random id for a run."""
    return os.urandom(8).hex()


def settings(kind: type[S], call: str, options: Mapping[str, Any], known: Iterable[str]) -> S:
    """Make a settings object from options.

    Args:
        kind: The dataclass.
        call: The name of the called function, for messages.
        options: The options by name.
        known: All valid names.

    Raises:
        ArgumentError: An option is unknown or has an impossible value.
    """
    check_names(call, options, known)
    return kind(**options)


def check_names(call: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse unknown options of ``call``.

    Raises:
        ArgumentError: A name is misspelt, or is a parameter of the target.
    """
    unknown = options.keys() - known
    if not unknown:
        return
    name = next(name for name in options if name in unknown)
    known = sorted(known)
    hint = did_you_mean(name, known)
    text = f"{call}() has no option '{name}'{hint or '; it has ' + ', '.join(known)}"
    if not hint and "use_vm" in known:
        text += f"\n    a value for a Param goes into params:  params={{'{name}': …}}"
    raise ArgumentError(text)


def takes(options: Any, *kinds: type[Any]) -> Callable[[F], F]:
    """Let ``help()`` show each option of a function that has ``**options``.

    Args:
        options: The TypedDict of the options.
        kinds: The dataclasses with their types, texts and defaults.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)
        shown = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        texts = []
        for kind in kinds:
            of_kind = _texts(kind)
            for field in fields(kind):
                if field.name in options.__optional_keys__:
                    shown.append(_parameter(field))
                    texts.append(of_kind.get(field.name, field.name))
        function.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
        if function.__doc__:  # with -OO there are no docstrings
            function.__doc__ = "\n\n".join([inspect.cleandoc(function.__doc__), _section(texts)])
        return function

    return decorate


def _parameter(field: Any) -> inspect.Parameter:
    default = () if field.default is MISSING else field.default
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=default, annotation=field.type)


def _section(texts: list[str]) -> str:
    return "\n".join(["Options:", *("    " + text.replace("\n", "\n    ") for text in texts)])


def _texts(kind: type[Any]) -> dict[str, str]:
    """Attribute → its entry in the docstring of ``kind``."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    section, _, _ = section.partition("\n\n")
    entries = re.split(r"^(?=\S)", inspect.cleandoc(section), flags=re.MULTILINE)
    return {entry.partition(":")[0]: entry.rstrip() for entry in entries if entry}
