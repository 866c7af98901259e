"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# A busy machine is slow; that is no fault of the code under test.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("busy")
