"""Tiers: the ways to make a task's steps, and which of them a task gets.

*fused*: the steps are a loop in the task's own code (``fused``). *generated*: a loop around the
task's function (``generated``). *interpreted*: step by step, as any node of a graph run goes on,
the definition of what the others do. What one tier cannot do for a task, the next lower one does.
Tasks that continue as each other by names that nothing proves run on a *trampoline*
(``trampoline``), whatever their tier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from cascade.runtime.loops.fused import Fused, fuse, is_traced
from cascade.runtime.loops.generated import Generated, generate
from cascade.runtime.loops.verified_source import Unfit
from cascade.spec.callsite import CallSite
from cascade.spec.errors import ArgumentError, TierError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.task import Task
from cascade.spec.wording import short, visible

Tier: TypeAlias = Literal["auto", "interpreted", "generated", "fused"]


@dataclass(frozen=True)
class Refusal:
    """Why a task does not get a tier.

    Attributes:
        tier: The tier.
        reason: A clause that says it.
        file, line: Where in the source that is; None where it is no matter of a line.
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
class Explanation:
    """The tier that a task gets on the virtual machine, and why not a better one.

    Attributes:
        task: Its name.
        tier: ``"fused"``, ``"generated"`` or ``"interpreted"``.
        shares_with: Names of the tasks in the same fused loop.
        refusals: For each better tier why it does not get it, the best first.
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
    """Which tier the virtual machine executes the steps of ``task`` in, and why not the next one.

    >>> from cascade.spec.task import task
    >>> @task
    ... def work(*items): ...
    >>> print(explain(work))
    work: interpreted
        not fused: it takes * or ** arguments
        not generated: it takes * or ** arguments

    Args:
        task: A task, or a call of it, whose policies count too.

    Raises:
        ArgumentError: It is none.

    Cost: about a millisecond for the first time, which the first run does not pay any more.
    """
    policies = None
    if isinstance(task, LazyResult):
        task, policies = task.task, task._calls  # type: ignore[assignment]
    if not isinstance(task, Task):
        raise ArgumentError(f"explain() takes a task, or a call of one, but got {short(task)}")
    if policies is not None and policies.needs_attempts:
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
    """Refuse what is no tier.

    Raises:
        ArgumentError: It is none.
    """
    if tier not in get_args(Tier):
        known = ", ".join(map(repr, get_args(Tier)))
        raise ArgumentError(f"tier must be one of {known}, but is {short(tier)}")


def demand(task: Any, tier: Tier) -> None:
    """Refuse a task that does not get the tier that was asked for by name.

    Raises:
        TierError: It does not; says why, with the line.
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
