"""What every process of the product works out for itself when it starts, done once for all that the tests compose.

A real process does each of these once in its life and never notices. The tests compose some thousand processes, for each of
which this took 200 ms. It is always the same that comes out: nothing here holds anything of a test.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme
from flask import Flask
from jinja2 import FileSystemBytecodeCache
from werkzeug.routing import Rule

from server import wiring
from server.c4c import saml


@contextmanager
def once(folder: Path) -> Iterator[None]:
    """Share all this for the length of the block; `folder` is empty and stays as long."""
    authorities = folder / "authorities.pem"
    authorities.write_bytes(trustme.CA().cert_pem.bytes())
    templates = {**Flask.jinja_options, "bytecode_cache": FileSystemBytecodeCache(str(folder))}
    compiled = {"compiled_cache": _Statements()}
    with pytest.MonkeyPatch.context() as patch:
        # The system's authorities: one, which has signed nothing, for more than a hundred.
        patch.setenv("SSL_CERT_FILE", str(authorities))
        # OpenSSL looks each time whether the factors of a key are prime.
        patch.setattr(saml, "load_pem_private_key", cache(saml.load_pem_private_key))
        # Google's descriptions of its services.
        patch.setattr(wiring, "describe", cache(wiring.describe))
        # Statements become SQL, templates and routes Python code.
        patch.setattr(sa, "create_engine", partial(sa.create_engine, execution_options=compiled))
        patch.setattr(Flask, "jinja_options", templates)
        patch.setattr(Flask, "url_rule_class", _Rule)
        yield


class _Statements(dict[tuple[Any, ...], Any]):
    """What SQLAlchemy has compiled, by the kind of database instead of by the one engine."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


class _Rule(Rule):
    """A route whose code is that of the first route that is written the same."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        if self.defaults:
            return super()._compile_builder(append_unknown)
        written = (append_unknown, *self._trace)
        if written not in _builders:
            _builders[written] = super()._compile_builder(append_unknown)
        return _builders[written]


_builders: dict[tuple[Any, ...], Callable[..., tuple[str, str]]] = {}
