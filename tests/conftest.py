"""Settings shared by every test: property tests are reproducible."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "crossent",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", settings.get_profile("crossent"), max_examples=5_000, derandomize=False)
settings.load_profile("crossent")
