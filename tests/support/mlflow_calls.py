"""Calls of MLflow's REST API, made up by hypothesis: good ones, and bad ones of each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from mlflow_pair import Call

Values = st.SearchStrategy[Any]

MAX = 2**63 - 1


def _of(*values: Any) -> Values:
    return st.sampled_from(values)


RUN = _of("<run:0>", "<run:1>", "<run:2>")
EXPERIMENT = _of("<exp:0>", "<exp:1>")
LOGGED = _of("<model:0>", "<model:1>")
KEY = _of("a", "b", "a b", "c/d", "e.f", "é")
BAD_KEY = _of(
    "/a", "a//b", "..", ".", "a/../b", "a,b", "k" * 250, "k" * 251, "a'", 'a"b', " ", "a\n"
)
VALUE = _of("", "1", "5", "x", "X", "y%", "it's", "été", "true", "v" * 300)
NUMBER = _of(0, 1, -1, 0.5, 1.5, 2, "NaN", "Infinity", "-Infinity", 1e308, "3.5", -0.0)
TIME = _of(0, 1, 1000, 1001, 1_700_000_000_000, "1700000000001")
STEP = _of(0, 1, 2, -1, 7, "3")
TAG = st.fixed_dictionaries({"key": KEY}, optional={"value": VALUE})
TAGS = st.lists(TAG, max_size=3)
METRIC = st.fixed_dictionaries(
    {"key": KEY, "value": NUMBER, "timestamp": TIME}, optional={"step": STEP}
)
MODEL_METRIC = st.fixed_dictionaries(
    {"key": KEY, "value": NUMBER, "timestamp": TIME},
    optional={
        "step": STEP,
        "model_id": LOGGED,
        "dataset_name": _of("d1", "d2"),
        "dataset_digest": _of("1", "2"),
    },
)
VIEW = _of("ACTIVE_ONLY", "DELETED_ONLY", "ALL", 1, 2, 3)
MODEL = _of("<x>m", "<x>n", "<x> p q")
VERSION = _of("1", "2", "3", "1", "2")
ALIAS = _of("champion", "Champion", "c-2", "_", "<x>")
STAGE = _of("None", "Staging", "Production", "Archived", "production", "STAGING", "none")
PROMPT_TAGS = [
    {"key": "mlflow.prompt.is_prompt", "value": "true"},
    {"key": "mlflow.prompt.text", "value": "Say {{ it }}"},
]

STRANGE = _of(
    None,
    "",
    "<absent>",
    0,
    1,
    -1,
    1.5,
    True,
    False,
    [],
    {},
    ["a"],
    [1],
    {"key": "a"},
    "<x>strange",
    "0",
    "-1",
    "1.5",
    "NaN",
    "nope!",
    "<x>" * 30,
    "s" * 600 + "<x>",
    "l" * 7_000 + "<x>",
    "l" * 21_000 + "<x>",
    "\x00",
    "2",
    "99",
    10**30,
    "\u2028",
    "/a",
    "a//b",
    "a:b",
    "..",
    " ",
    "v1",
    "latest",
    "Latest",
)


def _strange(name: str) -> Values:
    """Bad values of a field, but for those that name what other sequences made."""

    def own(value: Any) -> Any:
        plain = isinstance(value, str) and re.fullmatch(r"[\w.\- ]*\w", value)
        return f"<x>{value}" if plain and value not in ("..", "<absent>") else value

    if name in ("experiment_id", "experiment_ids"):
        return STRANGE.filter(lambda value: not re.search(r"\d", str(value)))
    if name in ("name", "new_name", "experiment_name"):
        return STRANGE.filter(lambda value: type(value) not in (int, float, bool)).map(own)
    if name == "filter":
        return STRANGE.filter(lambda value: str(value).strip() not in ("", "None", "<absent>"))
    return STRANGE


def _call(
    method: str,
    path: Values | str,
    required: Mapping[str, Values] | None = None,
    optional: Mapping[str, Values] | None = None,
    *,
    bad: bool = False,
) -> Values:
    """A call whose fields are good, or, where asked for, with one that is not."""
    needed, more = dict(required or {}), dict(optional or {})
    good = st.fixed_dictionaries(needed, optional=more)
    paths = st.just(path) if isinstance(path, str) else path
    if not bad:
        return st.builds(Call, st.just(method), paths, good)
    names = [*needed, *more]
    if not names:
        return st.builds(Call, st.just(method), paths, good)

    def spoil(fields: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
        spoiled = {**fields, name: value}
        if value == "<absent>":
            del spoiled[name]
        return spoiled

    spoiled = st.sampled_from(names).flatmap(
        lambda name: st.builds(spoil, good, st.just(name), _strange(name))
    )
    return st.builds(Call, st.just(method), paths, spoiled)


# Filters and orders


def _quote(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _clauses(fields: Mapping[str, str]) -> Values:
    """One comparison; fields are "text" or "number" by name; now and then a bad one."""
    text_ops = _of("=", "!=", "LIKE", "ILIKE", "like", "=")
    number_ops = _of("=", "!=", "<", "<=", ">", ">=")
    texts = _of("x", "X", "1", "5", "%", "y%", "%é%", "_", "a", "FINISHED", "<run:0>", "", "true")
    numbers = _of("0", "1", "-1", "0.5", "1e3", "1700000000000", "1.5", "2.")
    good = []
    for name, kind in fields.items():
        if kind == "number":
            good.append(
                st.builds(lambda n, o, v: f"{n} {o} {v}", st.just(name), number_ops, numbers)
            )
        else:
            good.append(st.builds(lambda n, o, v: f"{n} {o} '{v}'", st.just(name), text_ops, texts))
    names = st.sampled_from(
        [*fields, "nope", "nope.x", "tags.", "params", "metrics.`a b`", "tags.'a'"]
    )
    ops = _of(
        "=",
        "!=",
        "<",
        ">=",
        "LIKE",
        "IN",
        "NOT IN",
        "IS NULL",
        "IS NOT NULL",
        "==",
        "~",
        "NOT LIKE",
    )
    values = _of(
        "'x'", "1", "x", '"x"', "('x', 'X')", "('x')", "(1)", "()", "", "NULL", "'1", "('x',)"
    )
    odd = st.builds(lambda n, o, v: f"{n} {o} {v}", names, ops, values)
    return st.one_of(*good, *good, *good, odd)


def _filters(fields: Mapping[str, str], scope: str = "") -> Values:
    joined = st.lists(_clauses(fields), min_size=1, max_size=3).flatmap(
        lambda parts: _of(" AND ", " and ", " AND  ").map(lambda word: word.join(parts))
    )
    return joined.map(lambda text: f"{scope} AND {text}" if scope else text)


def _orders(names: list[str]) -> Values:
    way = _of("", " ASC", " DESC", " asc", " desc", " DESC", " nope", " ASC DESC")
    one = st.builds(
        lambda n, w: n + w, st.sampled_from([*names, *names, "nope", "nope.x", ""]), way
    )
    return st.lists(one, max_size=2)


RUN_FIELDS = {
    "metrics.a": "number",
    "metrics.b": "number",
    "metric.`a b`": "number",
    'metrics."c/d"': "number",
    "params.a": "text",
    "params.`a b`": "text",
    "parameters.b": "text",
    "tags.a": "text",
    "tags.b": "text",
    "tag.`a b`": "text",
    "tags.mlflow.runName": "text",
    "tags.e.f": "text",
    "attributes.status": "text",
    "status": "text",
    "run_name": "text",
    "run_id": "text",
    "attributes.start_time": "number",
    "end_time": "number",
    "created": "number",
    "user_id": "text",
    "artifact_uri": "text",
    "datasets.name": "text",
    "dataset.digest": "text",
    "datasets.context": "text",
    "attr.run_name": "text",
    "run.run_name": "text",
    "`run name`": "text",
}
EXPERIMENT_FIELDS = {
    "name": "text",
    "attribute.name": "text",
    "tags.a": "text",
    "tag.`a b`": "text",
    "creation_time": "number",
    "last_update_time": "number",
    "tags.b": "text",
    "experiment_id": "text",
}
MODEL_FIELDS = {"name": "text", "tags.a": "text", "tags.`a b`": "text", "tag.b": "text"}
VERSION_FIELDS = {
    "name": "text",
    "run_id": "text",
    "source_path": "text",
    "version_number": "number",
    "tags.a": "text",
    "tags.`a b`": "text",
}
LOGGED_FIELDS = {
    "name": "text",
    "model_id": "text",
    "model_type": "text",
    "status": "text",
    "source_run_id": "text",
    "creation_timestamp": "number",
    "last_updated_timestamp": "number",
    "metrics.a": "number",
    "metrics.b": "number",
    "params.a": "text",
    "tags.a": "text",
    "tags.`a b`": "text",
    "attributes.name": "text",
}


# Areas


def tracking(*, bad: bool = False) -> Values:
    """Experiments, runs, histories and searches of them."""

    def call(
        method: str,
        path: Values | str,
        required: Mapping[str, Values] | None = None,
        optional: Mapping[str, Values] | None = None,
    ) -> Values:
        return _call(method, path, required, optional, bad=bad)

    name = _of("<x>e", "<x>f", "<x> g/h", "<x>é")
    run, experiment = {"run_id": RUN}, {"experiment_id": EXPERIMENT}
    location = _of("s3://bucket/folder", "mlflow-artifacts:/own", "gs://b/", "")
    run_tags = st.lists(
        st.one_of(
            TAG,
            st.fixed_dictionaries({"key": st.just("mlflow.runName"), "value": _of("r1", "r2", "")}),
            st.fixed_dictionaries({"key": st.just("mlflow.user"), "value": _of("ada", "bob")}),
        ),
        max_size=3,
    )
    dataset = st.fixed_dictionaries(
        {
            "dataset": st.fixed_dictionaries(
                {
                    "name": _of("d1", "d2"),
                    "digest": _of("1", "2"),
                    "source_type": _of("local", "s"),
                    "source": _of("u", "{}"),
                },
                optional={"schema": _of("{}", ""), "profile": _of("p", "")},
            )
        },
        optional={
            "tags": st.lists(
                st.fixed_dictionaries(
                    {"key": _of("mlflow.data.context", "a"), "value": _of("train", "x")}
                ),
                max_size=2,
            )
        },
    )
    batch = call(
        "POST",
        "runs/log-batch",
        run,
        {"metrics": st.lists(METRIC, max_size=4), "params": TAGS, "tags": run_tags},
    )
    search = call(
        "POST",
        "runs/search",
        {"experiment_ids": _of(["<exp:0>"], ["<exp:0>", "<exp:1>"], ["<exp:1>"])},
        {
            "filter": _filters(RUN_FIELDS),
            "run_view_type": VIEW,
            "max_results": _of(1, 2, 3, 100, "2"),
            "order_by": _orders([*RUN_FIELDS]),
        },
    )
    tag_value = st.one_of(VALUE, VALUE, _of("r3", "v" * 8_001, "v" * 5_001))
    return st.one_of(
        call(
            "POST",
            "experiments/create",
            {"name": name},
            {"artifact_location": location, "tags": TAGS},
        ),
        call("GET", "experiments/get", experiment),
        call("GET", "experiments/get-by-name", {"experiment_name": name}),
        call("POST", "experiments/update", experiment, {"new_name": name}),
        call("POST", "experiments/delete", experiment),
        call("POST", "experiments/restore", experiment),
        call("POST", "experiments/restore", experiment),
        call(
            "POST", "experiments/set-experiment-tag", {**experiment, "key": KEY}, {"value": VALUE}
        ),
        call("POST", "experiments/delete-experiment-tag", {**experiment, "key": KEY}),
        call(
            "POST",
            "experiments/search",
            {
                "max_results": _of(1, 2, 100),
                "filter": _filters(EXPERIMENT_FIELDS, "name LIKE '<x>%'"),
            },
            {"view_type": VIEW, "order_by": _orders([*EXPERIMENT_FIELDS])},
        ),
        call(
            "POST",
            "runs/create",
            experiment,
            {
                "user_id": _of("ada", "bob", ""),
                "run_name": _of("r1", "r2", ""),
                # Of runs that start at once, the made-up ids say which comes first.
                "start_time": st.integers(10, 2_000_000_000_000),
                "tags": run_tags,
            },
        ),
        call("GET", "runs/get", run),
        call("GET", "runs/get", run),
        call(
            "POST",
            "runs/update",
            run,
            {
                "status": _of("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED", 3, 1),
                "end_time": TIME,
                "run_name": _of("r1", "r4", ""),
            },
        ),
        call("POST", "runs/delete", run),
        call("POST", "runs/restore", run),
        call("POST", "runs/restore", run),
        call(
            "POST",
            "runs/log-metric",
            {**run, "key": KEY, "value": NUMBER, "timestamp": TIME},
            {"step": STEP},
        ),
        call("POST", "runs/log-parameter", {**run, "key": KEY}, {"value": VALUE}),
        call(
            "POST",
            "runs/set-tag",
            {**run, "key": st.one_of(KEY, _of("mlflow.runName"))},
            {"value": tag_value},
        ),
        call("POST", "runs/delete-tag", {**run, "key": KEY}),
        batch,
        batch,
        batch,
        call(
            "POST",
            "runs/log-inputs",
            run,
            {"datasets": st.lists(dataset, max_size=2)},
        ),
        call(
            "GET",
            "metrics/get-history",
            {**run, "metric_key": KEY},
            {"max_results": _of(1, 2, 100)},
        ),
        call(
            "GET",
            "metrics/get-history-bulk-interval",
            {"run_ids": st.lists(RUN, min_size=1, max_size=2, unique=True), "metric_key": KEY},
            {"max_results": _of(1, 2, 3, 100)},
        ),
        search,
        search,
        search,
        search,
    )


def registry(*, bad: bool = False) -> Values:
    """Registered models, versions, aliases, stages, prompts and searches of them."""

    def call(
        method: str,
        path: Values | str,
        required: Mapping[str, Values] | None = None,
        optional: Mapping[str, Values] | None = None,
    ) -> Values:
        return _call(method, path, required, optional, bad=bad)

    model = {"name": MODEL}
    version = {**model, "version": VERSION}
    source = _of(
        "s3://bucket/m",
        "runs:/<run:0>/model",
        "mlflow-artifacts:/1/<run:0>/artifacts/m",
        "/etc/passwd",
        "models:/<x>m/1",
        "models:/<x>m@champion",
        "models:/<x>m/latest",
        "models:/<x>m/Production",
        "s3://b/../c",
        "file:///tmp/x",
        "http://host/a/b",
        "models:/<model:0>",
        "gs://b/a",
        "models:/nope/1",
        "runs:/nope/m",
        "relative/path",
    )
    tags = st.one_of(TAGS, st.just(PROMPT_TAGS[:1]))
    create = call(
        "POST",
        "model-versions/create",
        {**model, "source": _of("s3://bucket/m", "s3://bucket/n")},
        {"tags": TAGS, "description": VALUE, "run_link": _of("http://x", "")},
    )
    transition = call(
        "POST",
        "model-versions/transition-stage",
        {**version, "stage": STAGE},
        {"archive_existing_versions": _of(True, False, True)},
    )
    alias = call("POST", "registered-models/alias", {**version, "alias": ALIAS})
    return st.one_of(
        call("POST", "registered-models/create", model, {"tags": tags, "description": VALUE}),
        call("GET", "registered-models/get", model),
        call("GET", "registered-models/get", model),
        call("PATCH", "registered-models/update", model, {"description": VALUE}),
        call("POST", "registered-models/rename", {**model, "new_name": MODEL}),
        call("DELETE", "registered-models/delete", model),
        call(
            "POST",
            "registered-models/get-latest-versions",
            model,
            {"stages": st.lists(STAGE, max_size=2)},
        ),
        call(
            "GET",
            "registered-models/get-latest-versions",
            model,
            {"stages": st.lists(STAGE, max_size=2)},
        ),
        call("POST", "registered-models/set-tag", {**model, "key": KEY}, {"value": VALUE}),
        call("DELETE", "registered-models/delete-tag", {**model, "key": KEY}),
        alias,
        alias,
        call("DELETE", "registered-models/alias", {**model, "alias": ALIAS}),
        call("GET", "registered-models/alias", {**model, "alias": ALIAS}),
        create,
        create,
        create,
        call(
            "POST",
            "model-versions/create",
            {**model, "source": source},
            {
                "run_id": _of("<run:0>", "<run:1>", "nope"),
                "model_id": _of("<model:0>", "nope"),
                "tags": TAGS,
            },
        ),
        call(
            "POST",
            "registered-models/create",
            {"name": st.just("<x>prompt")},
            {"tags": st.just(PROMPT_TAGS[:1])},
        ),
        call(
            "POST",
            "model-versions/create",
            {
                "name": st.just("<x>prompt"),
                "source": _of("dummy-source", "prompt-template", "s3://a/b"),
                "tags": st.just(PROMPT_TAGS),
            },
        ),
        call("GET", "model-versions/get", version),
        call("GET", "model-versions/get", version),
        call("GET", "model-versions/get-download-uri", version),
        call("PATCH", "model-versions/update", version, {"description": VALUE}),
        transition,
        transition,
        call("DELETE", "model-versions/delete", version),
        call("POST", "model-versions/set-tag", {**version, "key": KEY}, {"value": VALUE}),
        call("DELETE", "model-versions/delete-tag", {**version, "key": KEY}),
        call(
            "GET",
            "registered-models/search",
            {
                "filter": st.one_of(
                    _filters(MODEL_FIELDS, "name LIKE '<x>%'"),
                    st.just("name LIKE '<x>%'"),
                    _of(
                        "name ILIKE '<x>%' AND tags.`mlflow.prompt.is_prompt` = 'true'",
                        "name LIKE '<x>%' AND tags.`mlflow.prompt.is_prompt` != 'true'",
                    ),
                )
            },
            {
                "max_results": _of(1, 2, 100),
                "order_by": _orders(["name", "timestamp", "last_updated_timestamp", "tags.a"]),
            },
        ),
        call(
            "GET",
            "model-versions/search",
            {
                "filter": st.one_of(
                    _filters(VERSION_FIELDS, "name LIKE '<x>%'"),
                    st.just("name LIKE '<x>%'"),
                    _of(
                        "name = '<x>m'",
                        "run_id IN ('<run:0>', 'x') AND name LIKE '<x>%'",
                        "name = '<x>prompt' AND tags.`mlflow.prompt.is_prompt` = 'true'",
                    ),
                )
            },
            {
                "max_results": _of(1, 2, 100),
                "order_by": _orders(
                    ["name", "version_number", "creation_timestamp", "last_updated_timestamp"]
                ),
            },
        ),
    )


def logged_models(*, bad: bool = False) -> Values:
    """Logged models, their metrics, and searches of them."""

    def call(
        method: str,
        path: Values | str,
        required: Mapping[str, Values] | None = None,
        optional: Mapping[str, Values] | None = None,
    ) -> Values:
        return _call(method, path, required, optional, bad=bad)

    def of(rest: str = "") -> Values:
        return LOGGED.map(lambda model: f"logged-models/{model}{rest}")

    run = {"run_id": RUN}
    order = st.lists(
        st.fixed_dictionaries(
            {
                "field_name": _of(
                    "name",
                    "creation_timestamp",
                    "metrics.a",
                    "metrics.b",
                    "model_id",
                    "status",
                    "params.a",
                    "nope",
                    "last_updated_timestamp",
                    "model_type",
                    "source_run_id",
                )
            },
            optional={
                "ascending": _of(True, False),
                "dataset_name": _of("d1"),
                "dataset_digest": _of("1"),
            },
        ),
        max_size=2,
    )
    search = call(
        "POST",
        "logged-models/search",
        {"experiment_ids": _of(["<exp:0>"], ["<exp:0>", "<exp:1>"])},
        {
            "filter": _filters(LOGGED_FIELDS),
            "order_by": order,
            "max_results": _of(1, 2, 50),
            "datasets": st.lists(
                st.fixed_dictionaries(
                    {"dataset_name": _of("d1", "d2")}, optional={"dataset_digest": _of("1")}
                ),
                max_size=2,
            ),
        },
    )
    batch = call("POST", "runs/log-batch", {**run, "metrics": st.lists(MODEL_METRIC, max_size=4)})
    models = st.lists(st.fixed_dictionaries({"model_id": LOGGED}), max_size=2)
    outputs = st.lists(
        st.fixed_dictionaries({"model_id": LOGGED, "step": _of(0, 1)}), min_size=1, max_size=2
    )
    return st.one_of(
        call(
            "POST",
            "logged-models",
            {"experiment_id": EXPERIMENT},
            {
                "name": _of("m1", "m2", "a/b"),
                "model_type": _of("t", ""),
                "source_run_id": RUN,
                "params": TAGS,
                "tags": TAGS,
            },
        ),
        call("GET", of()),
        call("GET", of(), {}, {"allow_deleted": _of("true", "false", "nope")}),
        call(
            "PATCH",
            "logged-models/<model:0>",
            {
                "model_id": st.just("<model:0>"),
                "status": _of("LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED", 1, 2),
            },
        ),
        call("DELETE", of()),
        call("PATCH", of("/tags"), {"tags": TAGS}),
        call("DELETE", of("/tags/a")),
        call(
            "POST",
            "logged-models/<model:0>/params",
            {"model_id": st.just("<model:0>"), "params": TAGS},
        ),
        batch,
        batch,
        call("POST", "runs/outputs", {**run, "models": outputs}),
        call("POST", "runs/log-inputs", run, {"models": models}),
        call("GET", "runs/get", run),
        search,
        search,
        search,
    )


BEGIN = (
    Call("POST", "experiments/create", {"name": "<x>start"}),
    Call("POST", "runs/create", {"experiment_id": "<exp:0>", "run_name": "r0", "start_time": 5}),
    Call("POST", "runs/create", {"experiment_id": "<exp:0>", "run_name": "r1", "start_time": 9}),
)
"""What every sequence begins with, so that most calls find something."""
BEGIN_LOGGED = (
    *BEGIN,
    Call(
        "POST",
        "logged-models",
        {"experiment_id": "<exp:0>", "name": "m0", "source_run_id": "<run:0>"},
    ),
)
BEGIN_REGISTRY = (
    *BEGIN_LOGGED,
    Call("POST", "registered-models/create", {"name": "<x>m"}),
    Call("POST", "model-versions/create", {"name": "<x>m", "source": "s3://bucket/first"}),
)
