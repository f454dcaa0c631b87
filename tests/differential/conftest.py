"""`pytest --hypothesis-profile=thorough tests/differential`: other programs each time, and many.

`--hypothesis-profile=brief`: some of those of each time, for one Python of several.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "thorough",
    max_examples=20_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("brief", max_examples=20, derandomize=True, deadline=None, database=None)
