"""Find a route at once, and run it in the threads for its kind of work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from modeltrail.api.gates import Pool, pool_of


class PooledRoute(APIRoute):
    """A route whose function, unless it is a coroutine, runs in the threads of its ``pool``."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        self.pool = pool_of(next(iter(settings.get("methods") or ["GET"])), path)
        if not iscoroutinefunction(endpoint):
            endpoint = _pooled(self.pool, endpoint)
        super().__init__(path, endpoint, **settings)


def _pooled(pool: Pool, work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    async def pooled(*args: Any, **kwargs: Any) -> Any:
        return await pool.run(work, *args, **kwargs)

    return pooled


class ByPath(BaseRoute):
    """Routes without ``{}`` in their path, in a dict by path. Put it before all other routes.

    A router tries one route after the other, which for the last of two hundred takes longer than
    logging a metric. Paths that are not found here go to the routes behind.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Take those of the routes that have one fixed path."""
        self._routes: dict[str, list[Route]] = defaultdict(list)
        for route in routes:
            if isinstance(route, Route) and "{" not in route.path:
                self._routes[route.path].append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":
            for route in self._routes.get(scope["path"], ()):
                match, child = route.matches(scope)
                if match is Match.FULL:
                    return match, {**child, "route": route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)
