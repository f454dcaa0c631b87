"""Questions to the system about processes, which need not be children of this one."""

import os
import subprocess


def is_running(pid: int | str) -> bool:
    """Whether a process has not ended; a zombie has."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return state.stdout.strip()[:1] not in ("", "Z")


def is_there(pid: int) -> bool:
    """Whether a process has not ended, or its parent has not noticed that yet: a zombie is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
