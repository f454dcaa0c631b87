"""The virtual machine: executes blueprints, with tail calls and without a Python stack.

*The machine*: ``machine`` (VirtualMachine, the face), ``registry`` (blueprints by id, for
``TailCall(target_blueprint_id=…)``), ``tiers`` (who gets which, ``explain``).
*The interpreter*: ``interpreter`` (the readable definition of what a blueprint does), ``frame``
(the state of one blueprint in execution), with ``operands``, ``sharing``, ``group``, ``paths`` and
``reports``.
*The fuser*: ``fuser`` (tail calls become assignments), with ``source`` (proven sources), ``tails``
(which tail calls), ``plain`` (which expressions are never lazy), ``members`` (who shares a loop)
and ``rewriting`` (how it is written).
*The generator*: ``generator`` (loops around a task's function) and ``straight`` (code for graphs of
plain calls); ``spinner`` enters what both have made, as ``loops`` says.
*The verifier*: ``verifier`` (what a blueprint must be like).
"""

from cascade.runtime.vm.machine import VirtualMachine
from cascade.runtime.vm.registry import BlueprintRegistry

__all__ = ["BlueprintRegistry", "VirtualMachine"]
