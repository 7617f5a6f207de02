"""The API and the command line.

To query a folder or a server from Python:

    from modeltrail.api import query

    query("FROM runs").df()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltrail.api.client import open_client, query
    from modeltrail.api.errors import ClientError
    from modeltrail.api.results import QueryResult

__all__ = ["ClientError", "QueryResult", "open_client", "query"]

_HOME = {
    "ClientError": "errors",
    "QueryResult": "results",
    "open_client": "client",
    "query": "client",
}


def __getattr__(name: str) -> object:
    """Import these names on first use: the help of the command line needs none."""
    if name in _HOME:
        import importlib

        module = importlib.import_module(f"modeltrail.api.{_HOME[name]}")
        globals()[name] = getattr(module, name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
