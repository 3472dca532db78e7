"""Settings of all tests: asserts in shared modules explain themselves, and no example is too slow.

How long a random example takes says how busy the machine is, and nothing about what is tested.
"""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.contracts.switch_contract")
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
