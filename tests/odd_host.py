"""What a host process does that sends a message nobody can read, and then nothing."""

import pickle
import time
from typing import Any


def main(pipe: Any, _options: bytes) -> None:
    """See ``HostingExecutor.start_host``."""
    pipe.send_bytes(pickle.dumps("ready"))
    pipe.send_bytes(b"of another version")
    time.sleep(60)
