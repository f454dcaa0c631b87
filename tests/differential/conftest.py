"""`pytest --hypothesis-profile=thorough tests/differential`: other programs each time, and many."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "thorough",
    max_examples=20_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
