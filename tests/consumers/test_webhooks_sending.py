"""Where a webhook may go, what it may cost, and how its secret is kept."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modeltrail.consumers.webhooks.http import NoAnswer, Sender, UrlRefused
from modeltrail.consumers.webhooks.secrets import Secrets, SecretUnreadable, WebhookKeyError
from webhook_receiver import Receiver, Reply

PRIVATE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "192.0.2.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
    "localhost",
]
NEVER = [
    "0.0.0.0",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
]


def post(sender: Sender, url: str) -> Any:
    return sender.post(url, b"{}", {"Content-Type": "application/json"}, 100)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused(host: str) -> None:
    for use in (Sender().check, lambda url: post(Sender(), url)):
        with pytest.raises(UrlRefused, match=r"non-public IP address"):
            use(f"https://{host}/hook")


@pytest.mark.parametrize("host", NEVER)
def test_some_addresses_are_refused_even_where_private_ones_are_allowed(host: str) -> None:
    with pytest.raises(UrlRefused, match=r"non-public IP address"):
        post(Sender(allow_private=True), f"http://{host}/hook")


@pytest.mark.parametrize("host", ["10.1.2.3", "127.0.0.1", "[::1]", "[fc00::1]"])
def test_private_addresses_where_they_are_allowed(host: str) -> None:
    Sender(allow_private=True).check(f"http://{host}/hook")


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700:4700::1111]"])
def test_public_addresses_by_https_only(host: str) -> None:
    Sender().check(f"https://{host}/hook")
    with pytest.raises(UrlRefused, match=r"must be https"):
        Sender(allow_private=True).check(f"http://{host}/hook")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://8.8.8.8/", "Invalid webhook URL scheme: 'http'. Allowed schemes are: https."),
        ("ftp://8.8.8.8/", "scheme: 'ftp'"),
        ("file:///etc/passwd", "scheme: 'file'"),
        ("8.8.8.8", "scheme: ''"),
        ("https:///path", "must include a hostname"),
        ("https://user:pass@8.8.8.8/", "must not hold a user"),
        ("https://8.8.8.8\\@127.0.0.1/", "no URL has"),
        ("https://8.8.8.8/a b", "no URL has"),
        ("https://8.8.8.8/\r\nHost: x", "no URL has"),
        ("https://8.8.8.8:99999/", "Invalid webhook URL"),
        ("https://[::1", "Invalid webhook URL"),
        ("https://" + "a" * 64 + ".example/", "Invalid webhook URL"),
        ("https://nowhere.invalid/", "Cannot resolve Webhook URL hostname 'nowhere.invalid'"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(UrlRefused) as error:
        Sender().check(url)
    assert message in str(error.value)


def resolving(monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> list[str]:
    """Have names resolve to these addresses, one answer a query; returns what is asked for."""
    real, asked = socket.getaddrinfo, list[str]()

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        name = host.replace(".", "_")
        return real(answers[name].pop(0) if name in answers else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_that_resolves_to_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, hook_example=["127.0.0.1"])
    with pytest.raises(UrlRefused, match=r"'hook\.example' resolves to 127\.0\.0\.1"):
        post(Sender(), "https://hook.example/")


def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    connected: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    asked = resolving(monkeypatch, hook_example=["8.8.8.8", "127.0.0.1"])
    with pytest.raises(NoAnswer):
        post(Sender(), "https://hook.example/")
    assert asked == ["hook.example"]
    assert connected == [("8.8.8.8", 443)]
    with pytest.raises(UrlRefused):
        post(Sender(), "https://hook.example/")


def test_redirects_are_not_followed() -> None:
    with Receiver() as inner:
        moved = Reply(307, {"Location": inner.url})
        with Receiver(lambda got, n: moved) as outer:
            assert post(Sender(allow_private=True), outer.url).status == 307
        assert not inner.got


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(Sender(allow_private=True), receiver.url).status == 200
        assert not proxy.got


def test_an_answer_is_read_up_to_a_limit() -> None:
    with Receiver(lambda got, n: Reply(200, {}, b"x" * 1_000_000)) as receiver:
        assert post(Sender(allow_private=True), receiver.url).body == "x" * 100


@pytest.fixture
def trickle() -> Iterator[int]:
    """Port of an endpoint that sends a byte now and then, and never an end of the headers."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    ended.set()
    thread.join()
    listener.close()


@pytest.mark.alone
def test_an_answer_that_trickles_in_is_given_up(trickle: int) -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"):
        post(Sender(allow_private=True, total_timeout_s=0.3), f"http://127.0.0.1:{trickle}/")
    assert time.monotonic() - began < 5


@pytest.mark.alone
def test_an_abort_ends_what_is_under_way(trickle: int) -> None:
    sender = Sender(allow_private=True)
    timer = threading.Timer(0.2, sender.abort)
    timer.start()
    began = time.monotonic()
    with pytest.raises(NoAnswer):
        post(sender, f"http://127.0.0.1:{trickle}/")
    assert time.monotonic() - began < 5
    timer.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hook.example with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hook.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hook.example")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "hook.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_https_goes_to_the_checked_address_under_the_names_certificate(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    with Receiver(tls=context) as receiver:
        answers = ["127.0.0.1"] * 2
        resolving(monkeypatch, hook_example=answers, other_example=["127.0.0.1"])
        sender = Sender(allow_private=True, tls=trusting)
        assert post(sender, f"https://hook.example:{receiver.port}/x").status == 200
        assert receiver.got[0].headers["host"] == f"hook.example:{receiver.port}"
        with pytest.raises(NoAnswer, match="certificate"):
            post(sender, f"https://other.example:{receiver.port}/x")
        with pytest.raises(NoAnswer, match="certificate"):
            post(Sender(allow_private=True), f"https://hook.example:{receiver.port}/x")
        assert len(receiver.got) == 1


def test_addresses_of_the_tests_are_what_they_say() -> None:
    assert ipaddress.ip_address("::7f00:1") == ipaddress.ip_address("::127.0.0.1")


# Secrets


def test_a_key_is_made_at_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    assert not list(tmp_path.iterdir())
    encrypted = secrets.encrypt("hush")
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "hush" not in encrypted
    assert Secrets(tmp_path).decrypt(encrypted) == "hush"


def test_keys_that_are_given_go_before_the_file_and_old_ones_go_on_decrypting(
    tmp_path: Path,
) -> None:
    from_file = Secrets(tmp_path).encrypt("a")
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    from_old = Secrets(tmp_path, old).encrypt("b")
    secrets = Secrets(tmp_path, f"{new}, {old}")
    assert [secrets.decrypt(text) for text in (from_file, from_old)] == ["a", "b"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert Secrets(elsewhere, new).decrypt(secrets.encrypt("c")) == "c"
    assert not list(elsewhere.iterdir())
    with pytest.raises(SecretUnreadable, match="MODELTRAIL_WEBHOOK_KEY"):
        Secrets(elsewhere, new).decrypt(from_old)


def test_what_is_no_key_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WebhookKeyError, match="MODELTRAIL_WEBHOOK_KEY"):
        Secrets(tmp_path, "secret")
    (tmp_path / "webhook.key").write_text("torn")
    with pytest.raises(WebhookKeyError, match=r"webhook\.key"):
        Secrets(tmp_path).encrypt("a")
