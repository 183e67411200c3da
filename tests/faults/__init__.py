"""What happens when the remotes of lookup and save are sick."""

import pytest

pytest.register_assert_rewrite("tests.faults.house")
