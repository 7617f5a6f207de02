"""Where our answers differ from MLflow's on purpose: one table, each entry with its reason."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from mlflow_pair import Call, Difference


class Known(NamedTuple):
    """A difference that is meant.

    Attributes:
        why: What is different, and why ours is better or as good.
        example: Calls, after ``mlflow_calls.BEGIN_REGISTRY``, whose last shows it.
        holds: Whether a difference in status or error code is this one.
        field: Whether a differing field (path, MLflow's value, ours) of answers 200 is this one.
        apart: Whether the two servers are no longer in the same state after it.
    """

    why: str
    example: tuple[Call, ...]
    holds: Callable[[Difference], bool] | None = None
    field: Callable[[Difference, str, Any, Any], bool] | None = None
    apart: bool = False


def _refused(found: Difference) -> bool:
    return found.ours.status in (400, 404) and found.ours.code is not None


def _said(answer: Any, pattern: str) -> bool:
    return re.search(pattern, str(answer.body.get("message", ""))) is not None


def _ours_says(found: Difference, pattern: str) -> bool:
    return _refused(found) and _said(found.ours, pattern)


def _theirs_says(found: Difference, pattern: str) -> bool:
    return found.theirs.status != 200 and _said(found.theirs, pattern)


def _filter(found: Difference) -> str:
    return str(found.call.fields.get("filter", ""))


_RUN = {"run_id": "<run:0>"}
_VERSION = {"name": "<x>m", "version": "1"}

KNOWN = (
    Known(
        "A mistake of MLflow's server (500) is no specification; its clients would repeat the call "
        "for minutes. Ours is an answer or a refusal.",
        (
            Call(
                "POST",
                "model-versions/transition-stage",
                {**_VERSION, "stage": "None", "archive_existing_versions": True},
            ),
        ),
        holds=lambda d: d.theirs.status >= 500 and d.ours.status < 500,
        apart=True,
    ),
    Known(
        "What a constraint of MLflow's database refuses (BAD_REQUEST, with SQL in the message) is "
        "taken as MLflow's other endpoints do: of two tags with one key the last counts.",
        (
            Call(
                "POST", "experiments/create", {"name": "<x>e", "tags": [{"key": "a"}, {"key": "a"}]}
            ),
        ),
        holds=lambda d: _theirs_says(d, "sqlite3.IntegrityError"),
        apart=True,
    ),
    Known(
        "There are no workspaces here, so no answer names one.",
        (Call("GET", "experiments/get", {"experiment_id": "<exp:0>"}),),
        field=lambda d, path, theirs, ours: path.endswith("workspace") and ours is None,
    ),
    Known(
        "A run without start_time starts when it is made, not in 1970.",
        (Call("POST", "runs/create", {"experiment_id": "<exp:0>"}),),
        field=lambda d, path, theirs, ours: (
            path.endswith("info.start_time") and theirs == 0 and ours == "<now>"
        ),
        apart=True,
    ),
    Known(
        "Infinite values are kept; MLflow's database has the greatest finite number instead.",
        (
            Call(
                "POST", "runs/log-metric", {**_RUN, "key": "a", "value": "Infinity", "timestamp": 1}
            ),
            Call("GET", "runs/get", _RUN),
        ),
        field=lambda d, path, theirs, ours: (
            path.endswith("value")
            and isinstance(theirs, float)
            and abs(theirs) == sys.float_info.max
            and ours in ("Infinity", "-Infinity")
        ),
    ),
    Known(
        "A relative location of artifacts is kept as it was said; MLflow's server puts the folder "
        "that it was started in before it.",
        (
            Call("POST", "experiments/create", {"name": "<x>e", "artifact_location": "folder"}),
            Call("GET", "experiments/get", {"experiment_id": "<exp:1>"}),
        ),
        field=lambda d, path, theirs, ours: (
            path.endswith(("artifact_location", "artifact_uri"))
            and theirs.startswith("/")
            and theirs.endswith(f"/{ours}")
        ),
    ),
    Known(
        "An end at 0 is an end.",
        (Call("POST", "runs/update", {**_RUN, "end_time": 0}),),
        field=lambda d, path, theirs, ours: (
            path.endswith("end_time") and theirs is None and ours == 0
        ),
    ),
    Known(
        "Times and numbers may be compared with fractions.",
        (
            Call(
                "POST",
                "experiments/search",
                {"max_results": 9, "filter": "name LIKE '<x>%' AND creation_time > 1.5"},
            ),
        ),
        holds=lambda d: (
            d.ours.status == 200
            and _theirs_says(d, "Invalid value for numeric attribute '.*': '?[0-9.e-]+'?")
        ),
    ),
    Known(
        "A run that goes on again has no end.",
        (
            Call("POST", "runs/update", {**_RUN, "status": "FINISHED", "end_time": 7}),
            Call("POST", "runs/update", {**_RUN, "status": "RUNNING"}),
        ),
        field=lambda d, path, theirs, ours: (
            path.endswith("end_time") and theirs is not None and ours is None
        ),
        apart=True,
    ),
    Known(
        "A run of a deleted experiment comes back with the experiment only: MLflow makes an active "
        "run that no page shows.",
        (
            Call("POST", "experiments/delete", {"experiment_id": "<exp:0>"}),
            Call("POST", "runs/restore", _RUN),
        ),
        holds=lambda d: d.call.path == "runs/restore" and _ours_says(d, "restore the experiment"),
        apart=True,
    ),
    Known(
        "A run that was deleted on its own stays so when its experiment comes back; MLflow brings "
        "all of them back.",
        (
            Call("POST", "runs/delete", _RUN),
            Call("POST", "experiments/delete", {"experiment_id": "<exp:0>"}),
            Call("POST", "experiments/restore", {"experiment_id": "<exp:0>"}),
            Call("POST", "runs/search", {"experiment_ids": ["<exp:0>"]}),
        ),
        field=lambda d, path, theirs, ours: (
            d.call.path == "runs/search" and path == "runs" and len(theirs or ()) > len(ours or ())
        ),
        apart=True,
    ),
    Known(
        "A source at any host is a place as good as another: only clients fetch it, this server "
        "never does.",
        (Call("POST", "model-versions/create", {"name": "<x>m", "source": "http://host/a"}),),
        holds=lambda d: (
            d.ours.status in (200, 404) and _theirs_says(d, "addresses a host other than")
        ),
        apart=True,
    ),
    Known(
        "A boolean in a query is true or false everywhere; MLflow reads some others as false.",
        (Call("GET", "logged-models/<model:0>", {"allow_deleted": "perhaps"}),),
        holds=lambda d: _ours_says(d, "Invalid boolean value"),
    ),
    Known(
        "A field that cannot be read is refused. MLflow drops it and those after it in silence.",
        (
            Call(
                "POST",
                "runs/log-batch",
                {**_RUN, "metrics": [{"key": "a", "value": "x", "timestamp": 1}]},
            ),
        ),
        holds=lambda d: _ours_says(d, "Invalid value .* Hint: Value was of type"),
        apart=True,
    ),
    Known(
        "A name, key or value that is too long is refused before it is looked for, and by every "
        "store; MLflow leaves some to its database, and SQLite takes any length.",
        (Call("POST", "registered-models/create", {"name": "<x>" + "n" * 257}),),
        holds=lambda d: _ours_says(d, "exceeds the maximum length"),
        apart=True,
    ),
    Known(
        "The history of a run that is not there is an error, not empty.",
        (
            Call(
                "GET",
                "metrics/get-history",
                {"run_id": "0" * 32, "metric_key": "a", "max_results": 1},
            ),
        ),
        holds=lambda d: (
            d.call.path.startswith("metrics/")
            and d.theirs.body == {}
            and _ours_says(d, "Run with id=.* not found")
        ),
    ),
    Known(
        "The path of a request names the logged model; what the body says beside it is ignored.",
        (Call("POST", "logged-models/<model:0>/params", {"model_id": 7, "params": []}),),
        holds=lambda d: (
            d.ours.status == 200
            and d.call.path.startswith("logged-models/")
            and d.call.fields.get("model_id") != "<model:0>"
        ),
        apart=True,
    ),
    Known(
        "A source that names its run or logged model need not be told twice.",
        (Call("POST", "model-versions/create", {"name": "<x>m", "source": "runs:/<run:0>/m"}),),
        holds=lambda d: (
            d.ours.code in (None, "RESOURCE_DOES_NOT_EXIST")
            and _theirs_says(d, "request parameter must identify the resource")
            and not (d.call.fields.get("run_id") or d.call.fields.get("model_id"))
        ),
        apart=True,
    ),
    Known(
        "A version is not made from a logged model that is not there. MLflow makes it, then fails, "
        "or looks for the registered model first.",
        (
            Call(
                "POST",
                "model-versions/create",
                {"name": "<x>m", "source": "s3://a/b", "model_id": "m-0"},
            ),
        ),
        holds=lambda d: _ours_says(d, "model_id request parameter must identify"),
        apart=True,
    ),
    Known(
        "Operators may be written in any case.",
        (Call("POST", "experiments/search", {"max_results": 9, "filter": "name like '<x>%'"}),),
        holds=lambda d: (
            d.ours.status == 200 and _theirs_says(d, "Invalid comparator .*\\b(like|ilike|in)\\b")
        ),
    ),
    Known(
        "A run that says no user is its mlflow.user's.",
        (
            Call(
                "POST",
                "runs/create",
                {
                    "experiment_id": "<exp:0>",
                    "start_time": 1,
                    "tags": [{"key": "mlflow.user", "value": "ada"}],
                },
            ),
        ),
        field=lambda d, path, theirs, ours: path.endswith("user_id") and theirs in (None, ""),
        apart=True,
    ),
    Known(
        "Of two names in the tags of a run the last counts; MLflow compares the first.",
        (
            Call(
                "POST",
                "runs/create",
                {
                    "experiment_id": "<exp:0>",
                    "start_time": 1,
                    "run_name": "b",
                    "tags": [
                        {"key": "mlflow.runName", "value": "a"},
                        {"key": "mlflow.runName", "value": "b"},
                    ],
                },
            ),
        ),
        holds=lambda d: (
            d.call.path == "runs/create"
            and str(d.call.fields.get("tags")).count("mlflow.runName") > 1
        ),
        apart=True,
    ),
    Known(
        "A logged model's metric that is NaN is NaN; MLflow has 0 there.",
        (
            Call(
                "POST",
                "runs/log-metric",
                {**_RUN, "key": "a", "value": "NaN", "timestamp": 1, "model_id": "<model:0>"},
            ),
            Call("GET", "logged-models/<model:0>"),
        ),
        field=lambda d, path, theirs, ours: (
            path.endswith("data.metrics[].value") and theirs == 0 and ours == "NaN"
        ),
    ),
    Known(
        "Runs of all experiments are searched if none is named; MLflow finds none.",
        (Call("POST", "runs/search", {"max_results": 3}),),
        field=lambda d, path, theirs, ours: (
            d.call.path == "runs/search"
            and not d.call.fields.get("experiment_ids")
            and theirs is None
        ),
    ),
    Known(
        "A version whose description was taken away has an empty one.",
        (Call("PATCH", "model-versions/update", _VERSION),),
        field=lambda d, path, theirs, ours: (
            path.endswith("description") and theirs is None and ours == ""
        ),
    ),
    Known(
        "A key that no tag can have is refused; MLflow looks for it first.",
        (
            Call(
                "POST",
                "experiments/delete-experiment-tag",
                {"experiment_id": "<exp:0>", "key": "a//b"},
            ),
        ),
        holds=lambda d: (
            d.theirs.status == 404 and "delete-" in d.call.path and _ours_says(d, "Names may")
        ),
    ),
    Known(
        "One may order by a field once; MLflow's search of experiments takes the first of two.",
        (
            Call(
                "POST",
                "experiments/search",
                {
                    "max_results": 9,
                    "filter": "name LIKE '<x>%'",
                    "order_by": ["name", "name DESC"],
                },
            ),
        ),
        holds=lambda d: _ours_says(d, "order_by` contains duplicate fields"),
    ),
    Known(
        "Nothing is equal to NULL; who asks that means IS NULL, and is told so.",
        (
            Call(
                "POST",
                "logged-models/search",
                {"experiment_ids": ["<exp:0>"], "filter": "name = NULL"},
            ),
        ),
        holds=lambda d: (
            d.call.path == "logged-models/search"
            and _ours_says(d, "Expected a quoted string value .* Got value NULL")
        ),
    ),
    Known(
        "A page has at least one item.",
        (
            Call(
                "POST",
                "logged-models/search",
                {"experiment_ids": ["<exp:0>"], "max_results": -1},
            ),
        ),
        holds=lambda d: (
            d.theirs.status == 200
            and _ours_says(d, "max_results' supplied. It must be a positive integer")
        ),
    ),
    Known(
        "A page token that no answer gave is refused, also one that counts back.",
        (
            Call(
                "POST",
                "runs/search",
                {"experiment_ids": ["<exp:0>"], "page_token": "eyJvZmZzZXQiOiAtMX0="},
            ),
        ),
        holds=lambda d: _ours_says(d, "Invalid page token"),
    ),
    Known(
        "Keys are quoted with backticks or double quotes in every search; MLflow's search of "
        "logged models reads single quotes as well.",
        (
            Call(
                "POST",
                "logged-models/search",
                {"experiment_ids": ["<exp:0>"], "filter": "tags.'a' = 'x'"},
            ),
        ),
        holds=lambda d: (
            d.call.path == "logged-models/search"
            and "tags.'" in _filter(d)
            and _ours_says(d, "nothing may begin with")
        ),
    ),
    Known(
        "What is wrong with a filter is INVALID_PARAMETER_VALUE in every search.",
        (
            Call(
                "POST",
                "logged-models/search",
                {"experiment_ids": ["<exp:0>"], "filter": "tags.a NOT IN (1)"},
            ),
        ),
        holds=lambda d: (
            d.call.path.endswith("/search")
            and d.theirs.code == "BAD_REQUEST"
            and d.ours.code == "INVALID_PARAMETER_VALUE"
        ),
    ),
)


class Words(NamedTuple):
    """A refusal that both give, in other words."""

    why: str
    theirs: str
    """A pattern of MLflow's message."""
    ours: str
    """A pattern of ours."""


WORDS = (
    Words(
        "MLflow shows a number of a query as the text that it came as.",
        "Invalid value \"-?#?\\d*\" for parameter 'max_results'",
        "Invalid value -?\\d+ for parameter 'max_results'",
    ),
    Words(
        "A number that no field holds is shown as it was read.",
        "Invalid value -?\\d{20,} for parameter|max_results must be between",
        'Invalid value "?-?(1e\\+30|10{30})"? for parameter',
    ),
    Words(
        "MLflow splits a filter first and reads its parts afterwards; we read it from left to "
        "right, and say what is wrong where.",
        "filter string|comparator|attributes support|Invalid attribute key|Invalid entity type"
        "|order.by|Invalid comparison|quoted string|list in|value type|Invalid clause"
        "|Invalid identifier type|numeric attribute",
        "Invalid (filter|order_by clause), at character|Wrong at character|cannot be ordered by"
        "|duplicate fields",
    ),
    Words(
        "A field that is not one of its values is refused before a filter is read.",
        "filter|comparator|attributes support|Invalid attribute key|Invalid entity type"
        "|quoted string|Expected|While parsing|Invalid clause|Invalid value for|order_by clause",
        "Invalid value .* for parameter '(run_)?view_type' supplied",
    ),
    Words(
        "A field that cannot be read is refused first. MLflow drops it and those after it, or "
        "wants the names of an enum in all others, and finds fault with what is left.",
        ".",
        "Invalid value .* for parameter '.*' supplied:  Hint: Value was of type",
    ),
    Words(
        "We look first for the fields that have to be there, and take an empty text for none.",
        "Invalid value .* for parameter '.*' supplied:  Hint: Value was of type",
        "Missing value for required parameter",
    ),
    Words(
        "A source at any host is a place as good as another, so something else is at fault.",
        "addresses a host other than",
        ".",
    ),
    Words(
        "Of several things that are wrong with a metric, its key and value are looked at first.",
        "Both dataset_name and dataset_digest must be provided",
        "Invalid value .* for parameter '(metrics.*)?(name|timestamp)' supplied",
    ),
)


def other_words(found: Difference) -> Words | None:
    """The entry that explains why a refusal is in other words."""
    for words in WORDS:
        if _said(found.theirs, words.theirs) and _said(found.ours, words.ours):
            return words
    return None


def explained(found: Difference) -> Known | None:
    """The entry that explains a difference; of several, one that sets the servers apart."""
    if found.theirs.status != 200 or found.ours.status != 200:
        for known in KNOWN:
            if known.holds is not None and known.holds(found):
                return known
        return None
    last = None
    for path, theirs, ours in found.fields:
        for known in KNOWN:
            if known.field is not None and known.field(found, path, theirs, ours):
                last = known if last is None or known.apart else last
                break
        else:
            return None
    return last
