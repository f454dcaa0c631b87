"""The virtual machine: executes blueprints, with tail calls and without a Python stack.

*The machine*: ``machine`` (VirtualMachine, the face), ``registry`` (blueprints by id, for
``TailCall(target_blueprint_id=…)``), ``tiers`` (who gets which, ``explain``), ``registers`` (the
readable definition of the instructions). What it executes else is a graph: ``strategies``.
*The fuser*: ``fuser`` (tail calls become assignments), with ``source`` (proven sources), ``tails``
(which tail calls), ``plain`` (which expressions are never lazy), ``members`` (who shares a loop)
and ``rewriting`` (how it is written).
*The generator*: ``generator`` (loops around a task's function) and ``straight`` (code for graphs of
plain calls). *The ring*: ``ring`` (loops of several tasks). ``strategies.spinner`` enters what
these have made, as ``loops`` says.
*The verifier*: ``verifier`` (what a blueprint must be like).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.runtime.execution.registry import BlueprintRegistry
    from cascade.runtime.vm.machine import VirtualMachine

__all__ = ["BlueprintRegistry", "VirtualMachine"]


def __getattr__(name: str) -> Any:
    # When asked for: the machine uses the graph machinery, which uses the loops in this folder.
    if name == "VirtualMachine":
        from cascade.runtime.vm.machine import VirtualMachine

        return VirtualMachine
    if name == "BlueprintRegistry":
        from cascade.runtime.execution.registry import BlueprintRegistry

        return BlueprintRegistry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
