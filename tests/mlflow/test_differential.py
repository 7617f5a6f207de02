"""MLflow's own server is the specification: both are sent the same calls, and answer the same.

A refusal has the same status and code, and begins with MLflow's words.

What differs on purpose is in ``mlflow_differences.KNOWN``, each with a reason and a sequence of
calls that shows it. MODELTRAIL_TEST_EXAMPLES sets how many sequences are made up for each area
(then with a seed of the day's own, which is printed); by default they are the same every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import mlflow_calls as calls
from api_server import Server
from mlflow_client import python_with_mlflow
from mlflow_differences import KNOWN, Known, explained, other_words
from mlflow_pair import Call, MlflowServer, Pair, differ, same_words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_EXAMPLES = os.environ.get("MODELTRAIL_TEST_EXAMPLES")


@pytest.fixture(scope="module")
def pair(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Our server and MLflow's, both empty."""
    reference = MlflowServer(python_with_mlflow("3"), tmp_path_factory.mktemp("reference"))
    try:
        reference.ready()
        pair = Pair(reference.url, server.url)
        yield pair
        pair.close()
    finally:
        reference.stop()


def _run(pair: Pair, sequence: Sequence[Call]) -> None:
    """Send a sequence to both, as long as they are in the same state; a difference is a failure."""
    pair.begin()
    for call in sequence:
        found = pair.ask(call)
        if found.theirs.status == found.ours.status == 200 and pair.by_chance(call):
            continue
        if not differ(found) and "next_page_token" in found.theirs.body:
            found = pair.pages(call)
        if differ(found):
            known = explained(found)
            assert known is not None, str(found)
            if known.apart:
                return
        elif found.theirs.status != 200:
            assert same_words(found) or other_words(found), str(found)
        if call.path == "experiments/restore" and pair.ours.deleted:
            return  # see the entry about runs that were deleted on their own


def _sequences(area: str) -> st.SearchStrategy[list[Call]]:
    make = {
        "tracking": calls.tracking,
        "registry": calls.registry,
        "logged models": calls.logged_models,
    }[area]
    good, bad = make(), make(bad=True)
    return st.lists(st.one_of(good, good, good, bad), min_size=10, max_size=25)


_made_up = settings(
    max_examples=int(_EXAMPLES or 30),
    derandomize=_EXAMPLES is None,
    print_blob=True,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@_made_up
@given(sequence=_sequences("tracking"))
def test_experiments_and_runs(pair: Pair, sequence: list[Call]) -> None:
    _run(pair, [*calls.BEGIN, *sequence])


@_made_up
@given(sequence=_sequences("registry"))
def test_the_registry(pair: Pair, sequence: list[Call]) -> None:
    _run(pair, [*calls.BEGIN_REGISTRY, *sequence])


@_made_up
@given(sequence=_sequences("logged models"))
def test_logged_models(pair: Pair, sequence: list[Call]) -> None:
    _run(pair, [*calls.BEGIN_LOGGED, *sequence])


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.why.split(".")[0])
def test_each_known_difference_is_still_one(pair: Pair, known: Known) -> None:
    pair.begin()
    sequence = [*calls.BEGIN_REGISTRY, *known.example]
    for call in sequence[:-1]:
        found = pair.ask(call)
        assert not differ(found) or explained(found) is not None, str(found)
    found = pair.ask(sequence[-1])
    assert differ(found), "the servers answer the same now; the entry can go"
    assert explained(found) is known, str(found)


def _many(n: int, **values: object) -> list[dict[str, object]]:
    return [{"key": f"k{i}", **values} for i in range(n)]


_BATCH = {"run_id": "<run:0>"}
_POINT = {"value": 1, "timestamp": 1}
LIMITS = [
    Call("POST", "runs/log-batch", {**_BATCH, "metrics": _many(1000, **_POINT)}),
    Call("POST", "runs/log-batch", {**_BATCH, "metrics": _many(1001, **_POINT)}),
    Call("POST", "runs/log-batch", {**_BATCH, "params": _many(100, value="1")}),
    Call("POST", "runs/log-batch", {**_BATCH, "params": _many(101, value="1")}),
    Call("POST", "runs/log-batch", {**_BATCH, "tags": _many(100, value="1")}),
    Call("POST", "runs/log-batch", {**_BATCH, "tags": _many(101, value="1")}),
    Call(
        "POST",
        "runs/log-batch",
        {**_BATCH, "metrics": _many(950, **_POINT), "params": _many(51, value="1")},
    ),
    Call("POST", "runs/log-batch", {**_BATCH, "params": [{"key": "a", "value": "v" * 1_000_000}]}),
    Call("GET", "runs/get", _BATCH),
    *(
        Call("POST", "runs/log-parameter", {**_BATCH, "key": f"long{n}", "value": "v" * n})
        for n in (500, 6000)
    ),
    *(
        Call("POST", "runs/set-tag", {**_BATCH, "key": f"long{n}", "value": "v" * n})
        for n in (5000, 8000, 8001)
    ),
    *(Call("POST", "runs/set-tag", {**_BATCH, "key": "k" * n}) for n in (250, 251)),
    *(Call("POST", "runs/log-metric", {**_BATCH, "key": "k" * n, **_POINT}) for n in (250, 251)),
    *(
        Call("POST", "experiments/set-experiment-tag", {"experiment_id": "<exp:0>", **tag})
        for tag in ({"key": "k" * 250}, {"key": "k" * 251}, {"key": "a", "value": "v" * 5001})
    ),
    *(Call("POST", "experiments/create", {"name": f"{'n' * n}<x>"}) for n in (400, 600)),
    *(
        Call("POST", "registered-models/set-tag", {"name": "<x>m", "key": key, "value": value})
        for key, value in (
            ("k" * 250, "v"),
            ("k" * 251, "v"),
            ("a", "v" * 100_000),
            ("a", "v" * 100_001),
        )
    ),
    *(
        Call("POST", "registered-models/alias", {"name": "<x>m", "version": "1", "alias": alias})
        for alias in ("a" * 255, "a" * 256, "a b", "latest", "LATEST", "v1", "V22", "v1a", "é")
    ),
    *(
        Call("POST", "runs/search", {"experiment_ids": ["<exp:0>"], "max_results": n})
        for n in (-1, 0, 1, 50_000, 50_001, 10**12)
    ),
    *(
        Call("POST", "experiments/search", {"max_results": n, "filter": "name LIKE '<x>%'"})
        for n in (-1, 0, 50_000, 50_001)
    ),
    *(
        Call("GET", "registered-models/search", {"max_results": n, "filter": "name LIKE '<x>%'"})
        for n in (-1, 0, 1000, 1001)
    ),
    *(
        Call("GET", "model-versions/search", {"max_results": n, "filter": "name LIKE '<x>%'"})
        for n in (-1, 0, 200_000, 200_001)
    ),
    *(
        Call("POST", "logged-models/search", {"experiment_ids": ["<exp:0>"], "max_results": n})
        for n in (-1, 0, 50, 1000)
    ),
    *(
        Call("GET", "metrics/get-history", {**_BATCH, "metric_key": "k1", "max_results": n})
        for n in (-1, 0, 1, 25_000, 10**9)
    ),
    *(
        Call("POST", "runs/search", {"experiment_ids": ["<exp:0>"], "page_token": token})
        for token in ("nope", "e30=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAiYSJ9")
    ),
]


def test_limits(pair: Pair) -> None:
    pair.begin()
    for call in [*calls.BEGIN_REGISTRY, *LIMITS]:
        found = pair.ask(call)
        if differ(found):
            assert explained(found) is not None, str(found)[:3_000]
        elif found.theirs.status != 200:
            assert same_words(found) or other_words(found), str(found)[:3_000]


UNKNOWN = [
    Call(method, f"{prefix}/{path}")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    for prefix in ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/3.0/mlflow")
    for path in ("nope", "runs/nope", "experiments", "preview/runs/get")
]


def test_what_is_not_an_endpoint_is_not_found(pair: Pair) -> None:
    pair.begin()
    for call in UNKNOWN:
        found = pair.ask(call)
        assert found.ours.status == found.theirs.status or found.theirs.status == 405, str(found)
        assert found.ours.code == "ENDPOINT_NOT_FOUND"


def test_what_moves_the_time_of_the_last_change(pair: Pair) -> None:
    """Models and versions tell when they were last changed; some calls do not count."""
    pair.begin()
    model, version = {"name": "<x>m"}, {"name": "<x>m", "version": "1"}
    changes = [
        Call("PATCH", "registered-models/update", {**model, "description": "d"}),
        Call("POST", "registered-models/set-tag", {**model, "key": "a", "value": "b"}),
        Call("DELETE", "registered-models/delete-tag", {**model, "key": "a"}),
        Call("POST", "model-versions/create", {**model, "source": "s3://a/b"}),
        Call("PATCH", "model-versions/update", {**version, "description": "d"}),
        Call("POST", "model-versions/set-tag", {**version, "key": "a", "value": "b"}),
        Call("DELETE", "model-versions/delete-tag", {**version, "key": "a"}),
        Call("POST", "model-versions/transition-stage", {**version, "stage": "Staging"}),
        Call("POST", "registered-models/alias", {**version, "alias": "a"}),
        Call("DELETE", "registered-models/alias", {**model, "alias": "a"}),
        Call("DELETE", "model-versions/delete", {**model, "version": "2"}),
        Call("POST", "experiments/update", {"experiment_id": "<exp:0>", "new_name": "<x>new"}),
        Call("POST", "experiments/set-experiment-tag", {"experiment_id": "<exp:0>", "key": "a"}),
        Call("POST", "experiments/delete-experiment-tag", {"experiment_id": "<exp:0>", "key": "a"}),
        Call("POST", "runs/create", {"experiment_id": "<exp:0>", "start_time": 1}),
        Call("POST", "experiments/delete", {"experiment_id": "<exp:0>"}),
        Call("POST", "experiments/restore", {"experiment_id": "<exp:0>"}),
    ]
    times = [
        (Call("GET", "registered-models/get", model), "registered_model", "last_updated_timestamp"),
        (Call("GET", "model-versions/get", version), "model_version", "last_updated_timestamp"),
        (
            Call("GET", "experiments/get", {"experiment_id": "<exp:0>"}),
            "experiment",
            "last_update_time",
        ),
    ]
    for call in calls.BEGIN_REGISTRY:
        pair.ask(call)

    def now() -> list[list[int]]:
        return [
            [side.send(call, pair.word)[1][what][name] for call, what, name in times]
            for side in (pair.theirs, pair.ours)
        ]

    before = now()
    for call in changes:
        assert not differ(found := pair.ask(call)), str(found)
        after = now()
        moved = [
            [old != new for old, new in zip(one, other, strict=True)]
            for one, other in zip(before, after, strict=True)
        ]
        assert moved[0] == moved[1], (call, moved)
        before = after
