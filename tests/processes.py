"""Questions to the system about processes, which need not be children of this one."""

import subprocess


def is_running(pid: int | str) -> bool:
    """Whether a process is there and has not ended; a zombie has ended."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return state.stdout.strip()[:1] not in ("", "Z")
