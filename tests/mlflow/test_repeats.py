"""A client that goes away before the answer, and asks again, has made one run or version."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import signal
from itertools import count
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from api_server import Server
from modeltrail.api.mlflow.repeats import Repeats


class Asking:
    """A request whose client can go away."""

    def __init__(self) -> None:
        self.gone = False
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if not self.gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


class Work:
    """Makes things, numbered, when it is let."""

    def __init__(self) -> None:
        self.made = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> bytes:
        self.made += 1
        number = self.made
        await self.may_end.wait()
        return b"%d" % number


def test_an_answer_that_nobody_took_is_given_to_the_next_who_asks() -> None:
    async def main() -> None:
        repeats, work, first = Repeats[bytes](), Work(), Asking()
        asked = asyncio.create_task(repeats.answer(first.request, ("k",), work))
        await asyncio.sleep(0.01)
        first.gone = True
        work.may_end.set()
        await asked
        assert await repeats.answer(Asking().request, ("k",), work) == b"1"
        assert await repeats.answer(Asking().request, ("k",), work) == b"2"  # it was taken

    asyncio.run(main())


def test_a_repeat_gets_the_answer_that_is_under_way() -> None:
    async def main() -> None:
        repeats, work, first, second = Repeats[bytes](), Work(), Asking(), Asking()
        tasks = [asyncio.create_task(repeats.answer(first.request, ("k",), work))]
        await asyncio.sleep(0.01)
        first.gone = True
        for asking in (second, Asking()):
            tasks.append(asyncio.create_task(repeats.answer(asking.request, ("k",), work)))
            await asyncio.sleep(0.01)
            second.gone = True  # gives up as well, and asks a third time
        work.may_end.set()
        assert await asyncio.gather(*tasks) == [b"1"] * 3
        assert await repeats.answer(Asking().request, ("k",), work) == b"2"

    asyncio.run(main())


def test_equal_requests_of_clients_that_wait_are_two() -> None:
    async def main() -> None:
        repeats, work = Repeats[bytes](), Work()
        work.may_end.set()
        asked = [repeats.answer(Asking().request, ("k",), work) for _ in range(3)]
        assert sorted(await asyncio.gather(*asked)) == [b"1", b"2", b"3"]

    asyncio.run(main())


def test_an_answered_request_is_not_taken_for_one_whose_client_is_gone() -> None:
    """A server tells of both that they are disconnected."""

    async def main(seed: int) -> None:
        repeats, chance, made = Repeats[bytes](), random.Random(seed), count()

        async def work() -> bytes:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            return b"%d" % next(made)

        async def ask() -> bytes:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            asking = Asking()
            answer = await repeats.answer(asking.request, ("k",), work)
            asking.gone = True
            return answer

        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert len(set(answers)) == len(answers), seed

    for seed in range(50):
        asyncio.run(main(seed))


def test_nothing_is_done_for_who_is_gone() -> None:
    async def main() -> None:
        work, asking = Work(), Asking()
        asking.gone = True
        with pytest.raises(ClientDisconnect):
            await Repeats[bytes]().answer(asking.request, ("k",), work)
        assert work.made == 0

    asyncio.run(main())


def test_an_error_is_not_kept() -> None:
    async def main() -> None:
        repeats, work, first = Repeats[bytes](), Work(), Asking()
        may_fail = asyncio.Event()

        async def fail() -> bytes:
            await may_fail.wait()
            raise ValueError("refused")

        asked = asyncio.create_task(repeats.answer(first.request, ("k",), fail))
        await asyncio.sleep(0.01)
        first.gone = True
        work.may_end.set()
        repeated = asyncio.create_task(repeats.answer(Asking().request, ("k",), work))
        await asyncio.sleep(0.01)
        may_fail.set()
        with pytest.raises(ValueError, match="refused"):
            await asked
        assert await repeated == b"1"

    asyncio.run(main())


def test_a_client_that_timed_out_made_one_run(server: Server) -> None:
    """The server stands still for longer than the client waits, twice."""
    made = server.ask("/api/2.0/mlflow/experiments/create", {"name": "stalled"})
    wanted = {"experiment_ids": [made["experiment_id"]]}
    body = json.dumps({"experiment_id": made["experiment_id"], "start_time": 5}).encode()
    waiting: list[http.client.HTTPConnection] = []
    server.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            if waiting:
                waiting[-1].close()
            waiting.append(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30))
            waiting[-1].request("POST", "/api/2.0/mlflow/runs/create", body)
    finally:
        server.process.send_signal(signal.SIGCONT)
    answer = json.loads(waiting[-1].getresponse().read())
    waiting[-1].close()
    (run,) = server.ask("/api/2.0/mlflow/runs/search", wanted)["runs"]
    assert run["info"]["run_id"] == answer["run"]["info"]["run_id"]
