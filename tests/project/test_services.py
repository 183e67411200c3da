"""The services that other tests rely on start here, answer, and end."""

import subprocess

import psycopg
import pytest

from tests.services import postgres, redis


def test_postgres_answers_while_it_is_wanted():
    with postgres() as url:
        address = url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            row = connection.execute("SELECT current_setting('server_encoding'), current_setting('fsync')").fetchone()
    assert row == ("UTF8", "off")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(address)


def test_redis_answers_while_it_is_wanted():
    with redis() as url:
        answer = subprocess.run(["redis-cli", "-u", url, "PING"], capture_output=True, text=True, check=True)
    assert answer.stdout == "PONG\n"
    assert subprocess.run(["redis-cli", "-u", url, "PING"], capture_output=True).returncode != 0
