"""The plugin for mypy: arguments of tasks are checked exactly, lazy ones and plain ones.

In the settings of mypy::

    plugins = ["cascade.spec.typing.mypy"]

Without it a call with a lazy argument is not checked, because a signature cannot say "a value of
this type, or a lazy one". The plugin gives each call of a task the signature of its function with
wider types (``widening``), and

- lets parameters be left out that ``Annotated[…, cs.inject(…)]`` fills;
- gives ``task.func`` the type of the function;
- accepts ``return other(x)`` in a task that is declared to return the value of ``other``;
- refuses ``cs.run(task)``, where the call is missing.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.argmap import map_actuals_to_formals
from mypy.checker import TypeChecker
from mypy.nodes import (
    ARG_NAMED,
    ARG_NAMED_OPT,
    ARG_OPT,
    ARG_POS,
    ARG_STAR,
    ARG_STAR2,
    ArgKind,
    CallExpr,
    Decorator,
    Expression,
    MemberExpr,
    RefExpr,
    TypeInfo,
)
from mypy.plugin import (
    AttributeContext,
    CheckerPluginInterface,
    FunctionContext,
    MethodContext,
    MethodSigContext,
    Plugin,
)
from mypy.types import (
    CallableType,
    Instance,
    Parameters,
    Type,
    get_proper_type,
)

from cascade.spec.typing.injected import injected_names
from cascade.spec.typing.returned import LAZY, value_if_returned
from cascade.spec.typing.widening import items_of, widened

TASK = "cascade.spec.task_class.Task"
DECORATORS = ("cascade.spec.task.task", "cascade.spec.task.Decorator.__call__")
#: Functions and methods whose target must not be a task itself.
RUNS = (
    "cascade.runtime.runners.run",
    "cascade.runtime.runners.run_async",
    "cascade.runtime.engine.Engine.run",
    "cascade.runtime.engine.Engine.start",
)
#: Methods of a lazy value that give the same lazy value.
POLICIES = "cascade.spec.policy_methods.PolicyMethods."


class CascadePlugin(Plugin):
    """Hooks for tasks, by the full names of functions and methods."""

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        if fullname in DECORATORS:
            return _task_made
        return _refuse_task if fullname in RUNS else None

    def get_method_signature_hook(
        self, fullname: str
    ) -> Callable[[MethodSigContext], CallableType] | None:
        return _SIGNATURES.get(fullname)

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        if fullname in DECORATORS:
            return _task_made
        if fullname in RUNS:
            return _refuse_task
        if fullname in (f"{TASK}.__call__", f"{TASK}.map") or fullname.startswith(POLICIES):
            return value_if_returned
        return None

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        return _function_itself if fullname == f"{TASK}.func" else None


def plugin(version: str) -> type[Plugin]:
    """The entry point of mypy."""
    return CascadePlugin


# -- tasks ------------------------------------------------------------------------------------


def _task_made(context: FunctionContext | MethodContext) -> Type:
    """The task, whose injected parameters may be left out."""
    made = get_proper_type(context.default_return_type)
    given = context.arg_types[0] if context.arg_types else []
    function = get_proper_type(given[0]) if given else None
    if not isinstance(function, CallableType) or not isinstance(made, Instance):
        return made
    names = injected_names(function)
    parameters = get_proper_type(made.args[0]) if made.args else None
    if not names or not isinstance(parameters, Parameters):
        return made
    kinds = [
        _OPTIONAL.get(kind, kind) if name in names else kind
        for name, kind in zip(parameters.arg_names, parameters.arg_kinds, strict=True)
    ]
    optional = parameters.copy_modified(arg_kinds=kinds)
    return made.copy_modified(args=[optional, *made.args[1:]])


_OPTIONAL = {ARG_POS: ARG_OPT, ARG_NAMED: ARG_NAMED_OPT}


def _function_itself(context: AttributeContext) -> Type:
    """The type of the function in ``task.func``, where the task's definition is known."""
    found = context.context
    task = found.expr if isinstance(found, MemberExpr) else None
    definition = task.node if isinstance(task, RefExpr) else None
    if isinstance(definition, Decorator) and definition.func.type is not None:
        return definition.func.type
    return context.default_attr_type


def _refuse_task(context: FunctionContext | MethodContext) -> Type:
    target = get_proper_type(context.arg_types[0][0]) if context.arg_types[0] else None
    if isinstance(target, Instance) and target.type.has_base(TASK):
        context.api.fail("The target is a task itself; call it", context.context)
    return context.default_return_type


# -- calls of tasks ---------------------------------------------------------------------------


class _Called:
    """A call of a task, or of one of its methods: the signature that its arguments must fit."""

    def __init__(self, context: MethodSigContext, of_method: bool) -> None:
        self.context = context
        self.call = context.context
        self.of_method = of_method
        self.parameters = self._parameters()

    def _parameters(self) -> Parameters | None:
        task = self.context.type
        if not isinstance(task, Instance) or not isinstance(self.call, CallExpr) or not task.args:
            return None
        parameters = get_proper_type(task.args[0])
        if not isinstance(parameters, Parameters) or parameters.is_ellipsis_args:
            return None
        task_expression: Expression = self.call.callee
        if self.of_method:
            if not isinstance(task_expression, MemberExpr):
                return None
            task_expression = task_expression.expr
        bound = _is_bound(task_expression, self.context.api)
        if bound is None:
            return None
        first = 1 if bound and parameters.arg_kinds[:1] in ([ARG_POS], [ARG_OPT]) else 0
        return parameters.copy_modified(
            arg_types=parameters.arg_types[first:],
            arg_kinds=parameters.arg_kinds[first:],
            arg_names=parameters.arg_names[first:],
        )

    def lazy(self, value: Type) -> Instance:
        # Not by named_generic_type: it finds only modules that the package itself imports.
        assert isinstance(self.context.api, TypeChecker)
        module, _, name = LAZY.rpartition(".")
        found = self.context.api.modules[module].names[name].node
        assert isinstance(found, TypeInfo)
        return Instance(found, [value])

    def given(self, kinds: list[ArgKind], names: list[str | None]) -> list[list[Expression]]:
        """For each parameter the expressions that are handed over to it."""
        assert isinstance(self.call, CallExpr)
        call = self.call

        def type_of(index: int) -> Type:
            return self.context.api.get_expression_type(call.args[index])

        places = map_actuals_to_formals(call.arg_kinds, call.arg_names, kinds, names, type_of)
        return [
            [call.args[i] for i in actual if not call.arg_kinds[i].is_star()] for actual in places
        ]

    def signature(
        self,
        types: list[Type],
        kinds: list[ArgKind],
        names: list[str | None],
        result: Type | None = None,
    ) -> CallableType:
        default = self.context.default_signature
        return default.copy_modified(
            arg_types=types,
            arg_kinds=kinds,
            arg_names=names,
            ret_type=default.ret_type if result is None else result,
        )


def _is_bound(task: Expression, api: CheckerPluginInterface) -> bool | None:
    """Whether ``task`` is that of an object, so that it fills the first parameter itself.

    None for class and static methods, whose calls are left alone.
    """
    if not isinstance(task, MemberExpr):
        return False
    owner = get_proper_type(api.get_expression_type(task.expr))
    if isinstance(owner, CallableType) and owner.is_type_obj():
        symbol, of_object = owner.type_object().get(task.name), False
    elif isinstance(owner, Instance):
        symbol, of_object = owner.type.get(task.name), True
    else:
        return False
    if symbol is None or not isinstance(symbol.node, Decorator):
        return False
    if symbol.node.func.is_class or symbol.node.func.is_static:
        return None
    return of_object


def _widened(called: _Called, found: Parameters) -> list[Type]:
    """The types of the task's parameters, each with lazy values of it where some are given."""
    given = called.given(found.arg_kinds, found.arg_names)
    return [
        widened(kind, called.lazy, expressions)
        for kind, expressions in zip(found.arg_types, given, strict=True)
    ]


def _call_signature(context: MethodSigContext) -> CallableType:
    """Of ``task(…)``."""
    called = _Called(context, of_method=False)
    found = called.parameters
    if found is None:
        return context.default_signature
    types = _widened(called, found)
    return called.signature(types, found.arg_kinds, found.arg_names)


def _tail_signature(context: MethodSigContext) -> CallableType:
    """Of ``task.tail(…)``: arguments that are left out keep their values."""
    called = _Called(context, of_method=True)
    found = called.parameters
    if found is None:
        return context.default_signature
    types = _widened(called, found)
    kinds = [_OPTIONAL.get(kind, kind) for kind in found.arg_kinds]
    return called.signature(types, kinds, found.arg_names)


def _map_signature(context: MethodSigContext) -> CallableType:
    """Of ``task.map(…)``: an iterable for each parameter, by name, beside the options."""
    called = _Called(context, of_method=True)
    found, default = called.parameters, context.default_signature
    if found is None or ARG_STAR2 not in default.arg_kinds:
        return default
    options = [i for i, kind in enumerate(default.arg_kinds) if kind != ARG_STAR2]
    types = [default.arg_types[i] for i in options]
    kinds = [default.arg_kinds[i] for i in options]
    names: list[str | None] = [default.arg_names[i] for i in options]
    for item, kind, name in zip(found.arg_types, found.arg_kinds, found.arg_names, strict=True):
        if kind == ARG_STAR or (name is None and kind != ARG_STAR2):
            continue
        types.append(item)
        kinds.append(_BY_NAME.get(kind, kind))
        names.append(name)
    given = called.given(kinds, names)
    columns = range(len(options), len(types))
    for i in columns:
        types[i] = items_of(types[i], called.lazy, _iterable(context.api), given[i])
    return called.signature(types, kinds, names)


_BY_NAME = {ARG_POS: ARG_NAMED, ARG_OPT: ARG_NAMED_OPT}
_SIGNATURES = {
    f"{TASK}.__call__": _call_signature,
    f"{TASK}.tail": _tail_signature,
    f"{TASK}.map": _map_signature,
}


def _iterable(api: CheckerPluginInterface) -> Callable[[Type], Instance]:
    return lambda item: api.named_generic_type("typing.Iterable", [item])
