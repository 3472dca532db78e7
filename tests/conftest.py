"""Asserts in modules that share tests explain themselves too."""

import pytest

pytest.register_assert_rewrite("tests.switch_contract")
