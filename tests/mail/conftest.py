"""Fixtures for the tests of server.mail: a small World, and a gateway as the product builds it. Providers add their own port."""

import ssl
from collections.abc import Callable
from datetime import timedelta

import pytest

from server.transport import Gateway
from simulator import demo
from simulator.world import World

pytest.register_assert_rewrite("tests.mail.contract", "tests.mail.contract_contacts", "tests.mail.contract_changes")


@pytest.fixture(scope="session")
def gateway() -> Gateway:
    return Gateway("the mail service", timeout_s=10, ssl_context=ssl.create_default_context())


@pytest.fixture
def world() -> World:
    return demo.small()


@pytest.fixture
def forward(world: World) -> Callable[..., None]:
    """Move the provider's clock: forward(hours=12)."""

    def forward(**span: float) -> None:
        world.clock_skew += timedelta(**span)

    return forward


@pytest.fixture
def sleeps() -> list[float]:
    """What the adapter would have slept, in seconds."""
    return []
