"""Post to URLs that users chose: to allowed addresses only, within limits, and signed.

Names are resolved once, the addresses are checked, and the connection goes to one of them. A name
that later resolves to another address ("DNS rebinding") therefore has no effect. Redirects are not
followed, and the environment's proxies are not used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from modeltrail.consumers.database import program_version

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
TOTAL_TIMEOUT_S = 30.0
"""Maximum duration of a request, even if the answer trickles in."""

SIGNATURE_HEADER: Final = "X-MLflow-Signature"
TIMESTAMP_HEADER: Final = "X-MLflow-Timestamp"
DELIVERY_ID_HEADER: Final = "X-MLflow-Delivery-Id"

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Cloud metadata services with credentials, outside of the link-local range.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_DEFAULT_PORTS = {"http": 80, "https": 443}


class UrlRefused(Exception):
    """This server does not send to this URL. The message gives the reason, in MLflow's words."""


class NoAnswer(Exception):
    """The endpoint was not reached or did not answer in time. A retry may help."""


class Answer(NamedTuple):
    """The answer of an endpoint."""

    status: int
    body: str
    """The start of the body."""
    retry_after_s: float | None


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    path: str


def signature(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return MLflow's signature: ``v1,`` and the HMAC-SHA256 of id, time and body, in base64."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def headers_of(delivery_id: str, body: bytes, secret: str | None) -> dict[str, str]:
    """Return the headers of a delivery that is sent now."""
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        DELIVERY_ID_HEADER: delivery_id,
        TIMESTAMP_HEADER: timestamp,
    }
    if secret:
        headers[SIGNATURE_HEADER] = signature(secret, delivery_id, timestamp, body)
    return headers


class Sender:
    """Posts to the URLs of webhooks. Thread-safe."""

    def __init__(
        self, *, allow_private: bool = False, tls: ssl.SSLContext | None = None,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
    ) -> None:  # fmt: skip
        """Make a sender.

        Args:
            allow_private: Also send to private addresses, and over http. Link-local addresses and
                cloud metadata services are always refused.
            tls: Certificates to trust; by default the system's.
            total_timeout_s: Maximum duration of a request, in seconds.
        """
        self.allow_private = allow_private
        self._tls = tls
        self._total_timeout_s = total_timeout_s
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._aborted = False

    def check(self, url: str) -> None:
        """Resolve a URL's host, and refuse it if this server does not send there.

        Raises:
            UrlRefused: with MLflow's wording.
        """
        target = self._target(url)
        try:
            self._addresses(target)
        except NoAnswer as error:
            raise UrlRefused(str(error)) from None

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], answer_bytes_max: int
    ) -> Answer:
        """Post once.

        Raises:
            UrlRefused: this server does not send to that URL.
            NoAnswer: no connection, or no answer in time.
        """
        target = self._target(url)
        addresses = self._addresses(target)
        deadline = time.monotonic() + self._total_timeout_s
        try:
            with self._watched(_connected(addresses), deadline) as plain:
                if target.scheme == "http":
                    return self._exchange(plain, deadline, target, body, headers, answer_bytes_max)
                context = self._tls or ssl.create_default_context()
                tls = context.wrap_socket(
                    plain, server_hostname=target.host, do_handshake_on_connect=False
                )
                with self._watched(tls, deadline):
                    tls.do_handshake()
                    return self._exchange(tls, deadline, target, body, headers, answer_bytes_max)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline:
                raise self._too_slow() from None
            raise NoAnswer(f"{type(error).__name__}: {error}") from None

    def _exchange(
        self,
        connected: socket.socket,
        deadline: float,
        target: _Target,
        body: bytes,
        headers: Mapping[str, str],
        answer_bytes_max: int,
    ) -> Answer:
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.default_port = _DEFAULT_PORTS[target.scheme]
        connection.sock = connected
        agent = {"User-Agent": f"modeltrail/{program_version()}", "Connection": "close"}
        connection.request("POST", target.path, body, {**agent, **headers})
        with connection.getresponse() as response:
            # Headers that were cut off here look as if they had ended.
            if self._aborted:
                raise NoAnswer("the server stops")
            if time.monotonic() >= deadline:
                raise self._too_slow()
            text = b""
            with suppress(OSError, http.client.HTTPException, ValueError):
                text = response.read(answer_bytes_max)
            return Answer(
                response.status,
                text.decode("utf-8", "replace"),
                _seconds(response.getheader("Retry-After")),
            )

    def _too_slow(self) -> NoAnswer:
        return NoAnswer(f"no answer within {self._total_timeout_s:g} s")

    def abort(self) -> None:
        """Abort all requests, current and future, because the server is stopping."""
        with self._lock:
            self._aborted = True
            for one in self._open:
                _shut(one)

    @contextmanager
    def _watched(self, one: socket.socket, deadline: float) -> Iterator[socket.socket]:
        """Yield a socket, shut it down at the deadline or when the server stops, and close it.

        A socket's time-out applies to each read; it does not end an answer that trickles in.
        """
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [one])
        timer.daemon = True
        with self._lock:
            if self._aborted:
                _shut(one)
            self._open.add(one)
        timer.start()
        try:
            yield one
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(one)
            one.close()

    # Allowed addresses

    def _target(self, url: str) -> _Target:
        if not url.strip():
            raise UrlRefused(f"Webhook URL cannot be empty or just whitespace: {url[:100]!r}")
        if not url.isprintable() or " " in url or "\\" in url:
            raise UrlRefused(f"Invalid webhook URL {url!r}: it has characters that no URL has")
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").encode("idna").decode()
        except (ValueError, UnicodeError) as error:
            raise UrlRefused(f"Invalid webhook URL {url!r}: {error!r}") from None
        allowed = ["http", "https"] if self.allow_private else ["https"]
        if parts.scheme not in allowed:
            raise UrlRefused(
                f"Invalid webhook URL scheme: {parts.scheme!r}. "
                f"Allowed schemes are: {', '.join(allowed)}."
            )
        if not host:
            raise UrlRefused(f"Webhook URL must include a hostname: {url!r}")
        if "@" in parts.netloc:
            raise UrlRefused("Webhook URL must not hold a user or a password; use the secret")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return _Target(
            parts.scheme,
            host,
            _DEFAULT_PORTS[parts.scheme] if port is None else port,
            quote(path, safe="/%:=&?~+!$,;'@()*[]"),
        )

    def _addresses(self, target: _Target) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        """Return the addresses of a host, all of them allowed."""
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NoAnswer(
                f"Cannot resolve Webhook URL hostname {target.host!r}: {error}"
            ) from None
        for *_, address in found:
            self._check_address(target, ipaddress.ip_address(address[0]))
        return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]

    def _check_address(self, target: _Target, address: _Address) -> None:
        inner = _embedded(address)
        public = inner.is_global and not inner.is_multicast and inner not in _METADATA
        if self.allow_private and not public:
            never = (
                inner.is_link_local
                or inner.is_multicast
                or inner.is_unspecified
                or (inner.is_reserved and not inner.is_loopback)
                or inner in _METADATA
            )
            if not never:
                return
        if not public:
            raise UrlRefused(
                "Webhook URL must not resolve to a non-public IP address. "
                f"{target.host!r} resolves to {address}."
            )
        if target.scheme == "http":
            raise UrlRefused("Webhook URL must be https, but for private addresses.")


def _embedded(address: _Address) -> _Address:
    """Return the IPv4 address in an IPv6 address: mapped, 6to4, NAT64, Teredo or compatible."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        teredo = address.teredo
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
    return address


def _connected(
    addresses: list[tuple[socket.AddressFamily, tuple[str, int]]],
) -> socket.socket:
    """Connect to the first address that accepts."""
    failure: OSError = OSError("no address")
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    for family, address in addresses:
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.settimeout(max(0.1, deadline - time.monotonic()))
            one.connect(address)
        except OSError as error:
            one.close()
            failure = error
        else:
            one.settimeout(READ_TIMEOUT_S)
            return one
    raise failure


def _seconds(text: str | None) -> float | None:
    """Return a ``Retry-After`` in seconds. Dates, which are rare, are ignored."""
    return float(text) if text is not None and text.isdecimal() and len(text) < 10 else None


def _shut(one: socket.socket) -> None:
    # Not the method of SSLSocket, which another thread must not call.
    with suppress(OSError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)
