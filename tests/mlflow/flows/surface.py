"""Prints every route of the installed mlflow's server; run by a Python that has mlflow."""

import re
import sys

from mlflow.server import app as flask_app

found = {
    (method, rule.rule)
    for rule in flask_app.url_map.iter_rules()
    for method in rule.methods - {"HEAD", "OPTIONS"}
}


def walk(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            walk(inner.routes, prefix + route.include_context.prefix)
            continue
        for method in (getattr(route, "methods", None) or set()) - {"HEAD", "OPTIONS"}:
            found.add((method, prefix + route.path))


try:
    from mlflow.server.fastapi_app import app
except ImportError:  # before MLflow 3
    pass
else:
    walk(app.routes)

for method, path in sorted(found):
    sys.stdout.write(f"{method} {re.sub(r'<[^>]*>|{[^}]*}', '{}', path)}\n")
