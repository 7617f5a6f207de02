"""Finding a route at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send


class ByPath(BaseRoute):
    """Routes without ``{}`` in their path, found by it; put it before all others.

    A router tries one route after the other, which for the last of two hundred takes longer than
    to log a metric. What is not found here is left to the routes behind.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Take those of the routes that have one fixed path."""
        self._routes: dict[str, list[Route]] = defaultdict(list)
        for route in routes:
            if isinstance(route, Route) and "{" not in route.path:
                self._routes[route.path].append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See ``BaseRoute.matches``."""
        if scope["type"] == "http":
            for route in self._routes.get(scope["path"], ()):
                match, child = route.matches(scope)
                if match is Match.FULL:
                    return match, {**child, "route": route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ``BaseRoute.handle``."""
        await scope["route"].handle(scope, receive, send)
