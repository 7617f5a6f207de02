"""What the flows share: a client, names that both versions can use side by side, small models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LinearRegression

import mlflow
from mlflow import MlflowClient

THREE = mlflow.__version__.startswith("3")
PINNED = {"pip_requirements": ["scikit-learn"]}  # spares a process that finds them out
X = np.arange(10.0).reshape(-1, 1)
client = MlflowClient()


def named(name: str) -> str:
    """A name that the other version of the client does not use on the same server."""
    return f"{name} of MLflow {mlflow.__version__.replace('.', '-')}"


def where(path: str) -> dict[str, str]:
    """How each version of the client is told under which name to log a model."""
    return {"name": path} if THREE else {"artifact_path": path}


def train(factor: int, registered: str | None = None, **metrics: float) -> str:
    """A run with a model that multiplies by ``factor``; its id."""
    with mlflow.start_run() as run:
        mlflow.log_metrics({"mse": 0.5 / factor, **metrics})
        model = LinearRegression().fit(X, X.ravel() * factor)
        mlflow.sklearn.log_model(
            model, registered_model_name=registered, **where("model"), **PINNED
        )
    return run.info.run_id


def factor(uri: str) -> int:
    """By what the model of this URI multiplies."""
    return round(float(mlflow.pyfunc.load_model(uri).predict(np.array([[1.0]]))[0]))


def error_of(call: Callable[..., Any], *args: Any, **options: Any) -> Exception:
    """The error that a call ends with."""
    try:
        call(*args, **options)
    except Exception as error:
        return error
    raise AssertionError(f"{call} did not fail")


def refused(code: str, call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The message with which the server refuses a call, for the reason expected."""
    error = error_of(call, *args, **options)
    assert isinstance(error, MlflowException), error
    assert error.error_code == code, error
    return str(error)
