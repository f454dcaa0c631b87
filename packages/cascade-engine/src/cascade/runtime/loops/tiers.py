"""Tiers: the ways to make a task's steps, and the choice among them.

*fused*: the steps are a loop in the task's own code (``fused``). *generated*: a loop around the
task's function (``generated``). *interpreted*: step by step, like any node of a graph run; this is
the definition of the others. If a tier cannot handle a task, the next lower one does. Tasks that
continue as each other by names that no analysis can prove run on a *trampoline* (``trampoline``),
whatever their tier; so do tasks whose steps are repeated or set context variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from cascade.runtime.loops.fused import Fused, fuse, is_traced
from cascade.runtime.loops.generated import Generated, generate
from cascade.runtime.loops.verified_source import Unfit
from cascade.spec.callsite import CallSite
from cascade.spec.errors import ArgumentError, TierError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.methods import BoundTask
from cascade.spec.shown import Shown
from cascade.spec.task import Task
from cascade.spec.wording import short, visible

Tier: TypeAlias = Literal["auto", "interpreted", "generated", "fused"]
_TIERS: Final = get_args(Tier)


@dataclass(frozen=True)
class Refusal:
    """The reason why a task does not get a tier.

    Attributes:
        tier: The tier.
        reason: A clause.
        file, line: Its place in the source; None if it does not concern a line.
    """

    tier: str
    reason: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = ""
        if self.file is not None and self.line is not None:
            where = f" ({CallSite(self.file, self.line)})"
        return f"not {self.tier}: {self.reason}{where}"


@dataclass(frozen=True)
class Explanation(Shown):
    """The tier of a task on the virtual machine, and the reasons against better ones.

    Attributes:
        task: Its name.
        tier: ``"fused"``, ``"generated"`` or ``"interpreted"``.
        shares_with: Names of the tasks in the same fused loop.
        refusals: For each better tier the reason against it, the best tier first.
    """

    task: str
    tier: str
    shares_with: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def __str__(self) -> str:
        together = f", in one loop with {', '.join(self.shares_with)}" if self.shares_with else ""
        lines = [f"{self.task}: {self.tier}{together}", *map("    {}".format, self.refusals)]
        return "\n".join(map(visible, lines))


def explain(task: Task[..., Any] | LazyResult[Any]) -> Explanation:
    """The tier of ``task`` on the virtual machine, and the reasons against better ones.

    >>> from cascade.spec.task import task
    >>> @task
    ... def work(*items): ...
    >>> print(explain(work))
    work: interpreted
        not fused: it takes * or ** arguments
        not generated: it takes * or ** arguments

    Args:
        task: A task, or a call of it, with the policies of that call.

    Raises:
        ArgumentError: It is neither.

    Cost: about a millisecond the first time, which the first run then saves.
    """
    policies = None
    if isinstance(task, BoundTask):
        task = task.task
    if isinstance(task, LazyResult):
        task, policies = task.task, task._calls  # type: ignore[assignment]
    if not isinstance(task, Task):
        raise ArgumentError(f"explain() takes a task, or a call of one, but got {short(task)}")
    if (policies or task.policies).needs_attempts:
        why = "its policies (retry, timeout) are for each step"
        return Explanation(
            task.name, "interpreted", (), (Refusal("fused", why), Refusal("generated", why))
        )
    refusals = []
    fused = fuse(task)
    if isinstance(fused, Fused) and not is_traced():
        others = tuple(other.name for other in fused.tasks if other is not task)
        return Explanation(task.name, "fused", others)
    refusals.append(_refusal("fused", task, fused))
    generated = generate(task)
    if isinstance(generated, Generated):
        return Explanation(task.name, "generated", (), tuple(refusals))
    refusals.append(_refusal("generated", task, generated))
    return Explanation(task.name, "interpreted", (), tuple(refusals))


def loop_of(task: Task[..., Any], tier: Tier) -> Fused | Generated | None:
    """The best loop of ``task`` that ``tier`` allows; None if its steps are calls."""
    if tier == "interpreted":
        return None
    if tier != "generated" and not is_traced():
        fused = fuse(task)
        if isinstance(fused, Fused):
            return fused
    generated = generate(task)
    return generated if isinstance(generated, Generated) else None


def check_tier(tier: Any) -> None:
    """Refuse an unknown tier.

    Raises:
        ArgumentError: ``tier`` is unknown.
    """
    if tier not in _TIERS:
        known = ", ".join(map(repr, _TIERS))
        raise ArgumentError(f"tier must be one of {known}, but is {short(tier)}")


def demand(task: Any, tier: Tier) -> None:
    """Refuse a task that cannot get the tier asked for by name.

    Raises:
        TierError: It cannot; the message has the reason and its line.
    """
    if tier not in ("generated", "fused") or not isinstance(task, Task):
        return
    found = fuse(task) if tier == "fused" else generate(task)
    if tier == "fused" and isinstance(found, Fused) and is_traced():
        found = Unfit("a debugger or coverage is looking at lines")
    if isinstance(found, Unfit):
        refusal = _refusal(tier, task, found)
        raise TierError(
            f"task '{task.name}' is {refusal}\n"
            "    tier='auto' takes the best tier that there is; cs.explain(task) tells which"
        )


def _refusal(tier: str, task: Task[..., Any], why: object) -> Refusal:
    if not isinstance(why, Unfit):
        return Refusal(tier, "a debugger or coverage is looking at lines")
    code = getattr(task.func, "__code__", None)
    if code is None or why.line is None:
        return Refusal(tier, why.reason)
    return Refusal(tier, why.reason, code.co_filename, why.line)
