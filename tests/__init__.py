"""What tests share asserts too, and says as much when it fails."""

import pytest

pytest.register_assert_rewrite("tests.chaos", "tests.e2e", "tests.integration", "tests.under_load")
