"""Collects only what can be imported: `hatch test --all` also runs without the upper layers."""

from importlib.util import find_spec

import cascade

# What each folder needs. A path given on the command line is collected all the same, so that an
# environment that has lost its own layer fails instead of testing nothing.
_NEEDS = {
    "spec": "spec",
    "graph": "graph",
    "engine": "runtime",
    "observatory": "observatory",
    "contracts": "runtime",
    "differential": "runtime",
    "end_to_end": "observatory",
}

collect_ignore = [
    folder for folder, layer in _NEEDS.items() if find_spec(f"{cascade.__name__}.{layer}") is None
]
