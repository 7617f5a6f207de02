"""`modeltrail serve`: the fold and the API in one process."""

from __future__ import annotations

import argparse
import errno
import gc
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from modeltrail.api.commands.common import (
    CommandError,
    artifacts_url,
    log_url,
    note,
    own_folder,
    progress,
    say,
)
from modeltrail.api.commands.first_admin import first_admin
from modeltrail.api.data_folder import DataFolder
from modeltrail.eventlog.address import kind_of
from modeltrail.eventlog.durable import replacing

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from modeltrail.api.commands.waiting import AwayLog
    from modeltrail.consumers.fold import Fold
    from modeltrail.consumers.webhooks.deliverer import Webhooks
    from modeltrail.eventlog import EventLog

_BACKLOG = 512
_GRACE_S = 5
_CHECKPOINT_EVERY_S = 5.0
_LAST_EVENTS_S = 5.0

_WARNING = """
  ##########################################################################
  #  WARNING: listening at {address} without authentication.
  #  Anyone who can reach this address can read, change and delete everything,
  #  under any name. Start again with users and permissions:
  #      modeltrail user create YOUR_NAME --admin
  #      modeltrail serve --host {host} --auth
  ##########################################################################
"""


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Imports create hundreds of thousands of permanent objects. Searching them for garbage takes a
    # fifth of the start.
    gc.disable()
    # Requests and the fold share the interpreter. A request passes through several threads, and
    # each would wait up to Python's 5 ms for the fold to release it.
    sys.setswitchinterval(0.0005)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("modeltrail").setLevel(logging.INFO)
    # uvicorn sends itself the signal again after a clean stop. It must not end the process early.
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    folder = own_folder(args)
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        listener = stack.enter_context(_listen(args.host, args.port))
        _run(args, folder, listener, stack, stopped)
    return 0


def _run(
    args: argparse.Namespace,
    folder: DataFolder,
    listener: socket.socket,
    stack: ExitStack,
    stopped: threading.Event,
) -> None:
    import uvicorn

    from modeltrail.api.access.rights import LEVELS, Access
    from modeltrail.api.app import create_app
    from modeltrail.api.artifacts.layers import Layers
    from modeltrail.api.artifacts.store import ArtifactStore, open_storage
    from modeltrail.api.node import Node
    from modeltrail.api.registry.sources import take_over
    from modeltrail.api.sql.queries import shares
    from modeltrail.consumers.caretaker import Caretaker
    from modeltrail.consumers.fold import Fold

    memory = shares(args.memory_limit or _half_of_memory())
    port = listener.getsockname()[1]
    url = _url(args.host, port)
    if not args.auth and not _is_loopback(args.host):
        note(_WARNING.format(address=f"{args.host}:{port}", host=args.host))
    log = _log(args, folder, listener, stopped)
    if log is None:
        return
    stack.callback(log.close)
    caretaker: Caretaker | None = None

    def wake() -> None:
        if caretaker is not None:
            caretaker.wake()

    fold = Fold(
        log,
        folder.database,
        memory_limit=f"{memory.database}B",
        threads=args.threads,
        on_registry_work=wake,
        accept=args.accept_log,
    )
    stack.callback(fold.stop)
    with progress("folding") as bar:
        fold.start(bar)
    # Stops just before the fold does, so that everything appended until then is signed.
    stack.enter_context(_checkpoints(folder.path, log, fold, accept=args.accept_log))
    storage = open_storage(artifacts_url(args, folder))
    storage.check()
    here = open_storage(str(folder.artifacts))
    if storage.url != here.url:
        storage = Layers(storage, here)
    artifacts = ArtifactStore(storage, bytes_max=args.artifact_limit, signs=args.presigned)
    node = Node(log, fold, artifacts)
    node.start()
    stack.callback(node.stop)
    stack.enter_context(node.multipart.cleaning())
    node.webhooks = _webhooks(args, folder.path, log, fold, stack)
    caretaker = Caretaker(log, fold, take_over, heart_timeout_s=args.heart_timeout)
    caretaker.start()
    stack.callback(caretaker.stop)
    access = None
    if args.auth:
        default = args.default_permission.upper().replace("NONE", "NO_PERMISSIONS")
        access = Access(node, LEVELS[default])
        stack.enter_context(first_admin(access))
    app = create_app(
        node,
        access=access,
        hosts=_hosts(args),
        unanswered=folder.path / "unanswered",
        shares=memory,
        spill=folder.path,
    )
    config = _config(args, app)
    gc.freeze()
    stack.callback(gc.unfreeze)  # otherwise DuckDB reports its types as leaked at exit
    # The fold creates many objects for each batch, none of them in cycles.
    gc.set_threshold(50_000, 20, 100)
    gc.enable()
    info = {"url": url, "pid": os.getpid(), "artifacts": storage.url}
    with replacing(folder.info) as file:
        file.write(json.dumps(info).encode())
    stack.callback(folder.info.unlink, missing_ok=True)
    say(f"Modeltrail is at {url}  (data: {folder.path}, log: {log.url})")
    sys.stdout.flush()
    if not stopped.is_set():
        uvicorn.Server(config).run(sockets=[listener])


def _hosts(args: argparse.Namespace) -> list[str]:
    return [args.host, socket.gethostname(), *args.allow_host]


def _config(args: argparse.Namespace, app: ASGIApp) -> uvicorn.Config:
    import uvicorn

    from modeltrail.api.connections import Connection, allow_connections

    Connection.connections_max = allow_connections()
    return uvicorn.Config(
        app,
        log_level="info" if args.access_log else "warning",
        access_log=args.access_log,
        server_header=False,
        # Anyone who is not the proxy could claim any address in its headers.
        proxy_headers=bool(args.trusted_proxy),
        forwarded_allow_ips=args.trusted_proxy,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=30,
        lifespan="on",
        loop="uvloop",
        http=Connection,
        ws="none",
    )


def _log(
    args: argparse.Namespace,
    folder: DataFolder,
    listener: socket.socket,
    stopped: threading.Event,
) -> EventLog | None:
    """Return the log once it can be reached, or None if the server is to stop first."""
    from modeltrail.eventlog import open_log

    url = log_url(args, folder)
    if kind_of(url) != "kafka":
        return open_log(url)
    from modeltrail.api.commands.waiting import Opening, serve_until

    opening = Opening(url)
    if not opening.wait(stopped) and not stopped.is_set():
        note(
            f"The log at {opening.url} is away. This server waits for it; until then it answers at "
            f"{_url(args.host, listener.getsockname()[1])} from what it has folded, and takes no "
            "writes."
        )

        def config(stack: ExitStack, away: AwayLog) -> uvicorn.Config:
            return _config_behind(args, folder, stack, away)

        serve_until(opening, config, listener, stopped)
    if not opening.done.is_set() or stopped.is_set():
        opening.give_up()
        return None
    return opening.opened()


def _config_behind(
    args: argparse.Namespace, folder: DataFolder, stack: ExitStack, log: AwayLog
) -> uvicorn.Config:
    """Return a server that answers from what was folded while the log is away."""
    from modeltrail.api.access.rights import LEVELS, Access
    from modeltrail.api.app import create_app
    from modeltrail.api.artifacts.store import ArtifactStore, open_storage
    from modeltrail.api.commands.waiting import Behind
    from modeltrail.api.node import Node
    from modeltrail.api.sql.queries import shares
    from modeltrail.consumers.fold import Fold
    from modeltrail.eventlog import REGISTRY_PARTITION

    memory = shares(args.memory_limit or _half_of_memory())
    fold = Fold(log, folder.database, memory_limit=f"{memory.database}B", threads=args.threads)
    fold.open_as_left()
    stack.callback(fold.stop)
    storage = open_storage(artifacts_url(args, folder))
    node = Node(log, fold, ArtifactStore(storage, signs=args.presigned))
    # A user who was removed while this server was down may still seem to exist. With --auth, no one
    # can sign in before the log was read.
    node.start_behind({REGISTRY_PARTITION: 2**62} if args.auth else {})
    stack.callback(node.stop)
    access = Access(node, LEVELS["NO_PERMISSIONS"]) if args.auth else None
    app = create_app(node, access=access, hosts=_hosts(args), shares=memory, spill=folder.path)
    return _config(args, Behind(app))


def _webhooks(
    args: argparse.Namespace, folder: Path, log: EventLog, fold: Fold, stack: ExitStack
) -> Webhooks:
    """Return what the server needs for webhooks. It delivers unless another server does."""
    from modeltrail.consumers.webhooks.deliverer import Deliverer, Webhooks
    from modeltrail.consumers.webhooks.http import Sender
    from modeltrail.consumers.webhooks.secrets import Secrets

    setting = os.environ.get("MODELTRAIL_WEBHOOK_ALLOW_PRIVATE", "").lower()
    allow_private = args.allow_private_webhooks or setting in ("1", "true", "yes")
    webhooks = Webhooks(
        Secrets(folder, os.environ.get("MODELTRAIL_WEBHOOK_KEY")),
        Sender(allow_private=allow_private),
    )
    if args.webhooks:
        webhooks.deliverer = Deliverer(log, fold, folder, webhooks, tries=args.webhook_tries)
        webhooks.deliverer.start()
        stack.callback(webhooks.deliverer.stop)
    return webhooks


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise CommandError(f"--host {host}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CommandError(
                    f"port {port} at {host} is in use by another server; stop it, or choose "
                    f"another port: modeltrail serve --port {port + 1 if port < 65535 else 0}"
                ) from None
            raise CommandError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        yield listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    """Return the URL of this server on this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://127.0.0.1:{port}" if address.version == 4 else f"http://[::1]:{port}"
    return f"http://{host}:{port}" if address.version == 4 else f"http://[{host}]:{port}"


def _half_of_memory() -> int:
    """Return half of the machine's memory, in bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(total // 2, 256 * 1024**2)


@contextmanager
def _checkpoints(folder: Path, log: EventLog, fold: Fold, *, accept: bool) -> Iterator[None]:
    """Sign the audit trail regularly, in a thread, and once more at the end."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=_sign,
        args=(folder, log, fold, accept, stopping),
        name="modeltrail-checkpoints",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _sign(folder: Path, log: EventLog, fold: Fold, accept: bool, stopping: threading.Event) -> None:
    logger = logging.getLogger("modeltrail.checkpoints")
    # Not at once, because importing cryptography would delay the first answers.
    ended = stopping.wait(_CHECKPOINT_EVERY_S)
    from modeltrail.consumers.checkpoints import Checkpoints, TrailBroken
    from modeltrail.consumers.fold import FoldBehind
    from modeltrail.eventlog import LogError

    checkpoints = None
    told = ""
    while True:
        try:
            if checkpoints is None:
                checkpoints = Checkpoints(folder, accept=accept)
            if ended:
                with suppress(FoldBehind, LogError):
                    fold.wait_for(log.end(), _LAST_EVENTS_S)
            with closing(fold.cursor()) as cursor:
                if ended:
                    checkpoints.write(cursor)
                else:
                    checkpoints.tick(cursor)
                fold.checkpoint = checkpoints.last
        except TrailBroken as error:
            logger.error("%s", error)
            fold.contradicted = str(error)
            return
        except Exception as error:
            # Without signatures the trail is still chained. The server continues, and tries again.
            if str(error) != told:
                logger.error("no checkpoints are signed: %s", error)
            told = str(error)
        if ended:
            return
        ended = stopping.wait(_CHECKPOINT_EVERY_S)
