"""Who waits where: pools of threads, gates, and passwords at a crowded door."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from modeltrail.api.access import credentials
from modeltrail.api.access.credentials import Passwords
from modeltrail.api.errors import TooBusy
from modeltrail.api.gates import FILES, HEALTH, READS, SQL, WRITES, Gate, Pool, pool_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_full_pool_keeps_no_other_waiting() -> None:
    ended, before = threading.Event(), threading.active_count()
    busy, other = Pool("busy", 2), Pool("other", 1)
    tasks = [asyncio.create_task(busy.run(ended.wait, 30)) for _ in range(60)]
    try:
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        assert await other.run(int, "7") == 7
        assert time.perf_counter() - began < 10
        assert threading.active_count() < before + 20, "work that waits for its turn holds a thread"
    finally:
        ended.set()
        await asyncio.gather(*tasks)


async def test_a_gate_lets_few_in_and_sends_away_who_waits_too_long() -> None:
    gate = Gate(2, waiting_max=2, wait_s=0.05, what="cows")
    leave = asyncio.Event()

    async def inside() -> None:
        async with gate.enter():
            await leave.wait()

    tasks = [asyncio.create_task(inside()) for _ in range(5)]
    await asyncio.sleep(0)
    done, _ = await asyncio.wait(tasks, timeout=0.01)
    assert len(done) == 1, "one more than may wait is sent away at once"
    await asyncio.sleep(0.1)
    outcomes = [task.exception() for task in tasks if task.done()]
    assert len(outcomes) == 3
    assert all(isinstance(error, TooBusy) and "cows" in str(error) for error in outcomes)
    leave.set()
    await asyncio.gather(*(task for task in tasks if not task.done()))
    for _ in range(5):  # nothing of it has stayed behind
        async with gate.enter():
            pass


async def test_who_gives_up_waiting_takes_no_place() -> None:
    gate = Gate(1, waiting_max=10, wait_s=10)
    async with gate.enter():
        waiting = [asyncio.create_task(gate.enter().__aenter__()) for _ in range(5)]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1), gate.enter():
        pass


@pytest.mark.parametrize(
    ("method", "path", "pool"),
    [
        ("GET", "/health", HEALTH),
        ("GET", "/metrics", HEALTH),
        ("POST", "/api/v1/sql", SQL),
        ("POST", "/api/v1/ingest", WRITES),
        ("GET", "/api/v1/runs", READS),
        ("GET", "/api/v1/runs/{run_id}/artifacts/{path:path}", FILES),
        ("POST", "runs/log-metric", WRITES),
        ("POST", "runs/search", READS),
        ("POST", "registered-models/get-latest-versions", READS),
    ],
)
def test_each_kind_of_request_has_threads_of_its_own(method: str, path: str, pool: Pool) -> None:
    assert pool_of(method, path) is pool


async def test_a_crowd_at_the_door_is_looked_at_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def look(hash: str | None, password: str) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return password == "right"

    monkeypatch.setattr(credentials, "_verify", look)
    passwords = Passwords()
    asked = [passwords.verify(f"user{n}", "wrong", "hash", "here") for n in range(40)]
    asked += [passwords.verify("ada", "right", "hash", "here") for _ in range(40)]
    assert await asyncio.gather(*asked) == [False] * 40 + [True] * 40
    assert most <= 2


async def test_a_crowd_guesses_no_more_than_one_who_guesses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []

    def look(hash: str | None, password: str) -> bool:
        looks.append(password)
        return False

    monkeypatch.setattr(credentials, "_verify", look)
    passwords = Passwords()
    asked = [passwords.verify("ada", f"guess {n}", "hash", "here") for n in range(100)]
    refused = await asyncio.gather(*asked, return_exceptions=True)
    assert len(looks) <= credentials.FAILURES_MAX + 2
    busy = [error for error in refused if isinstance(error, TooBusy)]
    assert len(busy) == 100 - len(looks)
    assert 1 <= busy[-1].details["retry_after_s"] <= credentials.FAILURES_S


def test_changes_of_passwords_take_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    busy = [threading.Thread(target=credentials._in_turn, args=(ended.wait,)) for _ in range(4)]
    for thread in busy:
        thread.start()
    try:
        with pytest.raises(TooBusy):
            credentials.hash_password("a password of some length")
    finally:
        ended.set()
        for thread in busy:
            thread.join()
    assert credentials.hash_password("a password of some length").startswith("$argon2")
