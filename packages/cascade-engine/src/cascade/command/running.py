"""``cascade run``: runs a target, with options for its parameters."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import UNSET, App, Group, Parameter

from cascade.command.caches import cache_of, pairs
from cascade.command.connecting import Connect, RunBroker, loop_factory, plane_of
from cascade.command.failures import UsageError
from cascade.command.modules import send_by_value
from cascade.command.stores import StoreUrl, opened, signing_key
from cascade.spec.checks import check_count, check_seconds
from cascade.spec.errors import ArgumentError

if typing.TYPE_CHECKING:
    from cascade.command.options import Option
    from cascade.command.targets import Target
    from cascade.runtime.options import RunOptions
    from cascade.spec.lazy_types import LazyResult


def _seconds(_hint: Any, value: float | None) -> None:
    if value is not None:
        _refuse(check_seconds, "--deadline", value)


def _steps(_hint: Any, value: int | None) -> None:
    if value is not None:
        _refuse(check_count, "--max-steps", value)


def _rounds(_hint: Any, value: int | None) -> None:
    if value is not None:
        _refuse(check_count, "--max-rounds", value)


def _executor(_hint: Any, value: str) -> None:
    from cascade.runtime.elsewhere.executors import is_name

    if value != "threads" and not is_name(value):
        raise UsageError(
            f"--executor takes threads, process, dask://HOST:PORT or ray://HOST:PORT, "
            f"but got {value!r}"
        )


def _refuse(check: Callable[[str, Any], None], option: str, value: Any) -> None:
    try:
        check(option, value)
    except ArgumentError as error:
        raise UsageError(str(error)) from None


Flag = Annotated[bool, Parameter(show_default=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The options of every target."""

    vm: Annotated[Flag, Parameter(help="Compile it, and run it on the virtual machine.")] = False
    tier: Annotated[
        Literal["auto", "interpreted", "generated", "fused"] | None,
        Parameter(help="The tier of the virtual machine; implies --vm."),
    ] = None
    fail_fast: Annotated[
        bool,
        Parameter(
            negative="--no-fail-fast", help="End with the first error, or run all that still can."
        ),
    ] = True
    deadline: Annotated[
        float | None,
        Parameter(metavar="SECONDS", help="How long the run may take.", validator=_seconds),
    ] = None
    max_steps: Annotated[
        int | None,
        Parameter(metavar="COUNT", help="How many steps its loops may make.", validator=_steps),
    ] = None
    max_rounds: Annotated[
        int | None,
        Parameter(metavar="COUNT", help="How many of them each node may make.", validator=_rounds),
    ] = None
    executor: Annotated[
        str,
        Parameter(
            env_var="CASCADE_EXECUTOR",
            metavar="NAME",
            help="Where plain functions are called: in threads; in processes on all cores "
            "(process); or on a cluster (dask://HOST:PORT, ray://HOST:PORT).",
            validator=_executor,
        ),
    ] = "threads"
    param: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=VALUE",
            help="A parameter that appears only during the run; may be repeated.",
            show_default=False,
        ),
    ] = ()
    progress: Annotated[
        bool | None,
        Parameter(
            negative="--no-progress",
            help="Show progress. By default a bar, in a terminal.",
        ),
    ] = None
    log_format: Annotated[
        Literal["human", "json"] | None,
        Parameter(help="Write a line for each event to standard error."),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Parameter(help="Leave out lines below this level; implies --log-format human."),
    ] = None
    capacity: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="NAME=AMOUNT",
            help="The amount of a capacity; may be repeated.",
            show_default=False,
        ),
    ] = ()
    connect: Connect = True
    broker: RunBroker = None
    run_id: Annotated[
        str | None,
        Parameter(
            metavar="ID", help="Keep the run in a store under this id; or go on with that run."
        ),
    ] = None
    store: StoreUrl = None
    cache: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            help="Keep the values of pure tasks in this cache, such as sqlite:///cache.db. "
            "Left out: CASCADE_CACHE.",
        ),
    ] = None
    json: Annotated[Flag, Parameter(help="Print the value as one line of JSON.")] = False

    @property
    def options(self) -> RunOptions:
        """The options of the run."""
        return {
            "use_vm": self.vm or self.tier is not None,
            "fail_fast": self.fail_fast,
            "deadline": self.deadline,
            "max_steps": self.max_steps,
            "max_rounds": self.max_rounds,
            "late_params": [text.partition("=")[0] for text in self.param],
            "run_id": self.run_id,
        }


Flattened = Annotated[Flags, Parameter(name="*")]


def run(
    target: Annotated[
        str, Parameter(help="The target, MODULE:TARGET; MODULE is a dotted name or a .py file.")
    ],
    /,
    *,
    flags: Flattened = Flags(),  # it is frozen
) -> None:
    """Run a target and print its value.

    A target's parameters become options: add --help behind it to see them.
    """
    from cascade.command.targets import find

    found = find(target)
    _run(found, found.lazy(), pairs(flags.param), flags)


def run_of(arguments: Sequence[str]) -> App:
    """The command ``run``, with options for the target in ``arguments``.

    Raises:
        UsageError: There is no such target.
        Exception: An error of the target's module.
    """
    plain = App(name="run", default_command=run, default_parameter=Parameter(negative=()))
    own = plain.assemble_argument_collection()
    names = [name for argument in own for name in argument.names]
    valued = {name for name in names if name.startswith("-") and own.match(name)[2] is UNSET}
    name = _first_word(arguments, valued)
    if name is None:
        return plain
    from cascade.command.target_options import options_of
    from cascade.command.targets import find

    target = find(name)
    lazy = target.lazy()
    command = _with_options(target, lazy, options_of(lazy, {*names, "--help", "--version"}))
    return App(name="run", usage=f"Usage: cascade run {name} [OPTIONS]", default_command=command)


def _first_word(arguments: Sequence[str], valued: set[str]) -> str | None:
    """The first word that is neither an option nor the value of one of ``run``'s own options.

    Options of the target stand behind it: only a known target tells which of them take a value.
    """
    values = False
    for word in arguments:
        if values:
            values = False
        elif not word.startswith("-"):
            return word
        else:
            values = word in valued
    return None


def _with_options(
    target: Target, lazy: LazyResult[Any], options: Sequence[Option]
) -> Callable[..., None]:
    """``run`` for a known target: a function whose signature includes the target's options."""

    def command(_name: str, /, *, flags: Flags = Flags(), **given: Any) -> None:
        params = dict(pairs(flags.param))
        for option in options:
            if option.name in params:
                raise UsageError(f"--param {option.name} has an option of its own: {option.flag}")
            value = option.given(given)
            if value is not None:
                params[option.name] = value
        _run(target, lazy, params, flags)

    group = Group(f"Parameters of {target.name}", sort_key=0)
    hints = typing.get_type_hints(run, include_extras=True)
    hints["target"] = Annotated[str, Parameter(show=False)]
    own = inspect.signature(run).parameters.values()
    parameters = [p.replace(annotation=hints[p.name]) for p in own]
    parameters += [one for option in options for one in option.parameters(group)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = " ".join(
        filter(None, [f"Run {target.name}.", target.description, _reads(lazy)])
    )
    return command


def _reads(lazy: LazyResult[Any]) -> str:
    """A sentence with the environment variables that it reads."""
    from cascade.command.target_options import variables_of

    names = ", ".join(variables_of(lazy))
    return f"It reads {names} from the environment." if names else ""


def _run(target: Target, lazy: LazyResult[Any], params: Mapping[str, Any], flags: Flags) -> None:
    from cascade.command.amounts import amounts
    from cascade.command.output import show_json, show_value
    from cascade.runtime.engine import Engine
    from cascade.runtime.execution.interrupts import run_interruptibly
    from cascade.runtime.telemetry.attach import attach

    tier, capacities = flags.tier or "auto", amounts(flags.capacity)
    if flags.executor != "threads":
        is_file = target.name.rpartition(":")[0].endswith(".py")
        send_by_value(target.file, is_far=is_file and "://" in flags.executor)
    if flags.store is not None and flags.run_id is None:
        raise UsageError("--store needs --run-id, which names the run in the store")

    async def value() -> Any:
        async with (
            Engine(
                tier=tier,
                resources=target.resources,
                capacities=capacities,
                executor=None if flags.executor == "threads" else flags.executor,
                store=there,
                cache=cache_of(flags.cache),
                signing_key=signing_key(),
            ) as engine,
            plane_of(engine, flags.connect, flags.broker),
        ):
            with attach(engine.bus, flags.log_format, flags.progress, log_level=flags.log_level):
                return await engine.run(lazy, params, **flags.options)

    with nullcontext() if flags.run_id is None else opened(flags.store, create=True) as there:
        result = run_interruptibly(value(), loop_factory(flags.broker))
    if flags.json:
        show_json(result, f"the value of {target.name}")
    else:
        show_value(result)
