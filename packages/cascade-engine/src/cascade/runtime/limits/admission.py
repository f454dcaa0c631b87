"""Admission: which calls need a permit (R10).

Every place that makes calls asks ``needs_permit``, and gets a permit from the run's ``Gate``: on
workers through ``queues.limit_waits``, in the event loop's thread by ``Gate.admitted``. A call with
capacities and without constraints takes them by ``Gate.take`` if they are free.

Code that begins thousands of calls a second tests a part of the rule inline: without constraints
and capacities no call needs a permit. Such a test may send a call to a lane that asks here, and
never begins one that needs a permit. It stands in

- ``lanes.fast_lane``, ``light_calls``, ``pump`` and ``slow_lane``, and in ``dispatch`` for calls
  that wait for a resource;
- ``compiled_loops.loop_driver`` and ``awaited_loops``;
- ``small_runs``, ``node_rules.chains``, ``vm.registers``, and the engine's choice of straight-line
  code, which need no constraints at all, and take no calls with capacities.

``tests/engine/limits/test_admission.py`` makes the same calls in all of them.
"""

from __future__ import annotations

from cascade.runtime.limits.constraints import ConstraintManager
from cascade.runtime.limits.permits import Permit
from cascade.spec.operation import Operation
from cascade.spec.policies import CallPolicies


def needs_permit(
    constraints: ConstraintManager, operation: Operation, policies: CallPolicies
) -> bool:
    """Whether a call needs a permit: it takes capacities, or a constraint applies to it.

    Constraints never apply to Cascade's own operations.
    """
    if policies.capacities:
        return True
    return constraints.any and not operation.structural and constraints.governs(operation.name)


def needs_another(
    constraints: ConstraintManager, operation: Operation, permit: Permit | None
) -> bool:
    """Whether constraints were set since the permit of a call that is about to begin.

    Asked after a delay, such as the wait for a thread. From any thread.
    """
    if not constraints.any or operation.structural:
        return False
    known = () if permit is None else permit.rules
    return any(rule not in known for rule in constraints.rules_of(operation.name))
