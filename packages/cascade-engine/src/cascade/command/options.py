"""An option of a target, and the Params that read it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from cyclopts import Group, Parameter

from cascade.command.failures import UsageError
from cascade.command.option_values import Reading
from cascade.spec.errors import ParameterError
from cascade.spec.nearby import did_you_mean
from cascade.spec.params import MISSING, Param
from cascade.spec.wording import short

#: With None, which is its default: in a program that has imported pydantic the arguments are
#: validated.
OPTIONAL_FLAG: Final[Any] = bool | None


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

    def given(self, values: Mapping[str, Any]) -> Any:
        """Its value, among the arguments of the command's function; None if it was left out."""
        return values.get(self.key)

    def parameters(self, group: Group) -> list[inspect.Parameter]:
        """The option as parameters of a function, for cyclopts."""
        return [self.parameter(group)]

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
        required = all(param.default is MISSING for param in self.params)
        common: dict[str, Any] = {
            "name": self.flag,
            "help": next((p.description for p in self.params if p.description), None),
            "group": group,
            "required": required,
            "show_default": shown_default(self.params[0].default),
        }
        if self.reading.convert is bool:
            hint: Any = bool if required else OPTIONAL_FLAG
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
        return keyword(self.key, hint, settings, inspect.Parameter.empty if required else None)


def keyword(key: str, hint: Any, settings: Parameter, default: Any = None) -> inspect.Parameter:
    """A parameter of a command's function, as cyclopts reads it."""
    kind, annotation = inspect.Parameter.KEYWORD_ONLY, Annotated[hint, settings]
    return inspect.Parameter(key, kind, default=default, annotation=annotation)


def shown_default(default: Any) -> str | Literal[False]:
    """A default for the help; False for none."""
    if default is MISSING or default is None:
        return False
    return default if isinstance(default, str) and default else short(default)
