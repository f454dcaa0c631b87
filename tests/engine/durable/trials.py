"""How often tests try what chance decides.

``-m thorough`` tries each kind of kill a hundred times, or as often as CASCADE_KILLS in the
environment says.
"""

import os

import pytest

MANY = int(os.environ.get("CASCADE_KILLS", "100"))


def trials(one_in: int = 1, first: int = 1) -> pytest.MarkDecorator:
    """Parametrise a test with ``trial``: some trials, and more of them with ``-m thorough``.

    Args:
        one_in: Try this kind so much less often than others.
        first: How many trials there are without ``-m thorough``.
    """
    more = [pytest.mark.thorough, pytest.mark.timeout(0)]
    most = max(MANY // one_in, 1)
    return pytest.mark.parametrize(
        "trial",
        [*range(first), *(pytest.param(n, marks=more) for n in range(first, most))],
    )
