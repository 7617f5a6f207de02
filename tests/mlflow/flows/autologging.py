"""Flows: models are trained with autolog on."""

from __future__ import annotations

from pathlib import Path

from common import THREE, client
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.tree import DecisionTreeClassifier

import mlflow


def scikit_learn() -> None:
    """One fit is one run, with params, metrics, plots, the dataset and the model."""
    mlflow.autolog()
    x, y = load_iris(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    with mlflow.start_run() as run:
        model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(x_train, y_train)
        model.score(x_test, y_test)
    found = client.get_run(run.info.run_id)
    assert found.data.params["max_depth"] == "3"
    assert found.data.metrics["training_accuracy_score"] > 0.9
    assert found.data.metrics["DecisionTreeClassifier_score_x_test"] > 0.8
    assert found.data.tags["estimator_name"] == "DecisionTreeClassifier"
    assert [used.dataset.name for used in found.inputs.dataset_inputs]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"estimator.html", "training_confusion_matrix.png"} <= files, files
    uri = f"runs:/{run.info.run_id}/model"
    assert "scikit-learn==" in Path(mlflow.pyfunc.get_model_dependencies(uri)).read_text()
    loaded = mlflow.pyfunc.load_model(uri)
    assert list(loaded.predict(x_test)) == list(model.predict(x_test))
    assert loaded.metadata.signature is not None
    assert "mlflow.log-model.history" in found.data.tags or THREE


def without_models() -> None:
    """Everything but the model."""
    mlflow.sklearn.autolog(log_models=False)
    x, y = load_iris(return_X_y=True)
    LogisticRegression(max_iter=200).fit(x, y)
    run = mlflow.last_active_run()
    assert (run.info.status, run.data.params["max_iter"]) == ("FINISHED", "200")
    assert "model" not in {file.path for file in client.list_artifacts(run.info.run_id)}
    if THREE:
        assert mlflow.search_logged_models(output_format="list") == []


def grid_search() -> None:
    """A grid search is a run with a child for each candidate, up to the number asked for."""
    mlflow.sklearn.autolog(log_models=False, max_tuning_runs=3)
    x, y = load_digits(return_X_y=True)
    grid = {"max_depth": [2, 4], "min_samples_leaf": [1, 5]}
    with mlflow.start_run() as run:
        search = GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=2).fit(x, y)
    parent = client.get_run(run.info.run_id)
    assert parent.data.params["best_max_depth"] == str(search.best_params_["max_depth"])
    assert parent.data.metrics["best_cv_score"] == search.best_score_
    children = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'",
        order_by=["metrics.mean_test_score DESC"],
    )
    assert len(children) == 3
    assert children["metrics.mean_test_score"][0] == search.best_score_
    assert set(children["params.max_depth"]) == {"2", "4"}
