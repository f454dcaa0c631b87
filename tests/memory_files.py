"""Files in memory that this process has open: those of marks, and of large values on their way."""

import gc
import os
from contextlib import suppress

from tests.remote_tasks import wait_until


def memory_files(name):
    """The number of open files in memory with a name."""
    gc.collect()
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the folder itself
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(found.startswith(f"/memfd:{name} ") for found in names)


def wait_until_closed(name, before):
    """Wait until no more files are open than before: a pool's thread may hold its last value."""
    wait_until(lambda: memory_files(name) <= before)
