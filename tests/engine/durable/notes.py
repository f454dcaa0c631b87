"""What the programs of these tests share: notes of calls, and orders in the environment."""

import os
from pathlib import Path

#: To be on the path of modules of such a program.
ROOT = Path(__file__).parents[3]


def note(text: str) -> None:
    """Append a line to the file CALLS, if there is one; whole, also when the process is killed."""
    path = os.environ.get("CALLS")
    if path:
        with Path(path).open("a") as file:
            file.write(text + "\n")


def obey() -> None:
    """Follow the orders of a test.

    LEASE is how many seconds a lease holds, FILE_SIZE how many bytes a file may have, as if the
    disk were full, and KILL_AT where to be killed.
    """
    if "FILE_SIZE" in os.environ:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FILE_SIZE"]),) * 2)
    if "LEASE" in os.environ:
        from cascade.runtime.durable.runs import DurableRuns

        assert DurableRuns.__init__.__kwdefaults__ is not None
        DurableRuns.__init__.__kwdefaults__["seconds"] = float(os.environ["LEASE"])
    if "KILL_AT" in os.environ:
        from tests.engine.durable.kill_points import kill_at

        point, _, number = os.environ["KILL_AT"].rpartition(":")
        kill_at(point, int(number))
