"""The options of a target: one per name that its ``Param`` nodes read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from cyclopts import Group, Parameter

from cascade.command.failures import UsageError
from cascade.command.option_values import Reading, reading_of
from cascade.graph.sources import sources_of
from cascade.spec.errors import ParameterError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.nearby import did_you_mean
from cascade.spec.params import MISSING, Env, Param
from cascade.spec.wording import short


class Option(NamedTuple):
    """An option of the command line, and the Params that read it."""

    #: Its name as a parameter of the command's function.
    key: str
    flag: str
    params: tuple[Param[Any], ...]
    reading: Reading

    @property
    def name(self) -> str:
        """Its key in the run's ``params``."""
        return self.params[0].param_name

    def value(self, text: str) -> Any:
        """The value for the run's ``params``, checked against every Param that reads it.

        Raises:
            UsageError: The text does not fit.
        """
        given: Any = text
        for param in self.params:
            try:
                if isinstance(param.type, type) and self.reading.convert is not param.type:
                    # Such as a date or a list, whose types cannot read text.
                    given = self.reading.convert(text)
                param.read({self.name: given})
            except (ParameterError, ValueError) as error:
                raise UsageError(self._misfit(text, param, error)) from error
        return given

    def _misfit(self, text: str, param: Param[Any], error: Exception) -> str:
        where = f"(declared at {param.callsite})"
        if self.reading.choices:
            listed = ", ".join(self.reading.choices)
            near = did_you_mean(text, self.reading.choices)
            return f"{self.flag} must be one of {listed}, but is {short(text)}{near} {where}"
        if isinstance(param.type, type) and isinstance(error, ParameterError):
            return f"{self.flag} must be {param.type.__name__}, but is {short(text)} {where}"
        cause = error.__cause__ or error
        return f"{self.flag} cannot be {short(text)}: {cause} {where}"

    def parameter(self, group: Group) -> inspect.Parameter:
        """The option as a function parameter, for cyclopts; it gets the converted value."""
        default = self.params[0].default
        required = all(param.default is MISSING for param in self.params)
        common: dict[str, Any] = {
            "name": self.flag,
            "help": next((p.description for p in self.params if p.description), None),
            "group": group,
            "required": required,
            "show_default": False if default is MISSING or default is None else _shown(default),
        }
        if self.reading.convert is bool:
            # With None if it may be left out, which is its default: in a program that has imported
            # pydantic the arguments are validated.
            hint: Any = bool if required else bool | None
            settings = Parameter(negative=f"--no-{self.flag[2:]}", **common)
        else:
            hint = Any
            settings = Parameter(
                converter=lambda _hint, tokens: self.value(tokens[0].value),
                n_tokens=1,
                allow_leading_hyphen=True,  # --offset -3
                metavar=self.reading.shown,
                choices=self.reading.choices or None,
                **common,
            )
        return inspect.Parameter(
            self.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required else None,
            annotation=Annotated[hint, settings],
        )


def options_of(target: LazyResult[Any], taken: Iterable[str]) -> list[Option]:
    """An option for each name, in the order of the graph.

    Args:
        target: The target of the command.
        taken: Flags with another meaning: a parameter of that name becomes ``--param-…``.
    """
    params: dict[str, list[Param[Any]]] = {}
    for source in sources_of(target):
        if isinstance(source, Param):
            params.setdefault(source.param_name, []).append(source)
    flags = set(taken)
    options: list[Option] = []
    for name, group in params.items():
        flag = _flag(name, flags)
        flags |= {flag, f"--no-{flag[2:]}"}
        options.append(Option(f"option_{len(options)}", flag, tuple(group), _reading(group)))
    return options


def variables_of(target: LazyResult[Any]) -> Mapping[str, Env]:
    """The environment variables that the target reads."""
    return {env.param_name: env for env in sources_of(target) if isinstance(env, Env)}


def _flag(name: str, taken: set[str]) -> str:
    """``--start-date`` for ``start_date``; another flag if that is taken."""
    dashed = "-".join(name.replace("_", " ").split()) or "param"
    candidates = [f"--{dashed}", f"--param-{dashed}"]
    number = 2
    while candidates[0] in taken:
        candidates.pop(0)
        if not candidates:
            candidates.append(f"--param-{dashed}-{number}")
            number += 1
    return candidates[0]


def _reading(params: list[Param[Any]]) -> Reading:
    """How to read the option of these Params; as text if they disagree."""
    kinds = {param.type for param in params}
    if len(kinds) > 1:
        return Reading(str, "TEXT")
    (kind,) = kinds
    if not isinstance(kind, type):
        shown = getattr(kind, "shown", None) or _named_after(kind)
        return Reading(kind, shown, tuple(getattr(kind, "values", ())))
    return reading_of(kind) or Reading(kind, kind.__name__.upper())


def _named_after(function: Any) -> str:
    """``DATE`` for ``date.fromisoformat``, ``VALUE`` for functions whose name tells nothing."""
    owner = getattr(function, "__self__", None)
    return owner.__name__.upper() if isinstance(owner, type) else "VALUE"


def _shown(default: Any) -> str:
    return default if isinstance(default, str) and default else short(default)
