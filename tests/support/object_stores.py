"""Object stores on this machine: real servers of the protocols, with their data in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

_CACHE = Path(__file__).parents[2] / ".cache"
_AZURITE = "3.37.0"
# Azurite's, which its documentation tells everybody.
_AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class ObjectStoreMissing(Exception):
    """A store cannot be started here; the message says why."""


class ObjectStoreServer(NamedTuple):
    """A store that runs."""

    url: str
    """Of an empty bucket, with a prefix."""
    environment: dict[str, str]
    """What has to be set to reach it."""


@contextmanager
def s3() -> Iterator[ObjectStoreServer]:
    """S3, by moto."""
    with _moto() as url:
        _make_bucket(url)
        yield ObjectStoreServer(
            "s3://bucket/pre/fix",
            {
                "AWS_ACCESS_KEY_ID": "tester",
                "AWS_SECRET_ACCESS_KEY": "not-to-be-told",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": url,
            },
        )


@contextmanager
def google() -> Iterator[ObjectStoreServer]:
    """Google's XML API, by moto: it is S3's but for signing, and moto checks no signature."""
    with _moto() as url:
        _make_bucket(url)
        account = {
            "gcs_base_url": url,
            "disable_oauth": True,
            "client_email": "tester@example.org",
            "private_key": "",
            "private_key_id": "",
        }
        yield ObjectStoreServer(
            "gs://bucket/google",  # moto's servers of one process share their buckets
            {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_BASE_URL": url},
        )


@contextmanager
def _moto() -> Iterator[str]:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto: Callable[..., Any] = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_AUTHORIZATION", "Bearer").startswith("Bearer"):
            environ["HTTP_AUTHORIZATION"] = (
                "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, "
                "SignedHeaders=host, Signature=0"
            )
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make_bucket(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")):
        pass


@contextmanager
def azure() -> Iterator[ObjectStoreServer]:
    """Azure Blob Storage, by Azurite; needs node and npm."""
    main = _azurite()
    process = subprocess.Popen(
        [
            *("node", str(main), "--inMemoryPersistence", "--blobHost", "127.0.0.1"),
            *("--blobPort", "0", "--disableTelemetry", "--skipApiVersionCheck", "--silent"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if found := re.search(r"listens on (http://\S+)", line):
                break
        else:
            raise ObjectStoreMissing(f"Azurite does not start: {told}")
        _make_container(found[1])
        yield ObjectStoreServer(
            "az://bucket/pre/fix",
            {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": found[1]},
        )
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _azurite() -> Path:
    """Its program, installed when it is first wanted."""
    folder = _CACHE / f"azurite-{_AZURITE}"
    main = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not shutil.which("node") or not shutil.which("npm"):
        raise ObjectStoreMissing("Azurite needs node and npm, which are not installed")
    if not main.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", f"azurite@{_AZURITE}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "npm_config_update_notifier": "false"},
        )
        if done.returncode or not main.exists():
            shutil.rmtree(folder, ignore_errors=True)
            raise ObjectStoreMissing(f"npm cannot install Azurite: {done.stderr[-500:]}")
    return main


def _make_container(url: str) -> None:
    date, version, account = formatdate(usegmt=True), "2021-08-06", "devstoreaccount1"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    signed += f"/{account}/{account}/bucket\nrestype:container"
    digest = hmac.new(base64.b64decode(_AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(
        f"{url}/{account}/bucket?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}",
        },
    )
    with urllib.request.urlopen(request):
        pass


STORES = {"s3": s3, "google": google, "azure": azure}
