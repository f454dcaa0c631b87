"""How often a durable run records the arguments of its loops (D4), and looks at its lease (D6)."""

from __future__ import annotations

from typing import Final

from cascade.spec.policies import CallPolicies

#: Seconds between two records of a loop of coroutines that waits for none.
OFTEN: Final = 0.005
#: The same for loops of plain functions.
_SELDOM: Final = 1.0
#: Seconds between two looks at a lease that is to be renewed.
RENEWAL: Final = 0.02


def interval(policies: CallPolicies, is_async: bool, sync: bool) -> float:
    """Seconds between two records of a loop; 0 for one at each step.

    Loops of plain functions compute; those of coroutines get each record, or with
    ``durability="async"`` a recent one. ``with_checkpoint`` may say otherwise.

    Args:
        policies: Those of the loop's node.
        is_async: Whether it is a loop of coroutine functions.
        sync: Whether no call begins before the outcomes that it depends on are committed (D4).
    """
    if policies.checkpoint is not None:
        return policies.checkpoint
    if not is_async:
        return _SELDOM
    return 0.0 if sync else OFTEN
