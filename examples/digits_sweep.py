"""A real sweep: classifiers on the handwritten digits that scikit-learn bundles.

    python examples/digits_sweep.py                      # into ./modeltrail-data
    MODELTRAIL_URL=http://127.0.0.1:5000 python examples/digits_sweep.py

A parent run, twelve trials in processes of their own, real metrics for every epoch. The best
one of each kind asks to become a version of a registered model; ``examples/first_run.py`` promotes
them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import classification_report, confusion_matrix, f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from modeltrail.producers import start_run

EXPERIMENT = "digits"
MODEL = "digits-classifier"
CLASSES = np.arange(10)

TRIALS: list[dict[str, Any]] = [
    *({"kind": "sgd", "alpha": a, "penalty": p} for a in (1e-4, 1e-3, 1e-2) for p in ("l2", "l1")),
    *({"kind": "mlp", "hidden": h, "lr": r} for h in (32, 64, 128) for r in (1e-3, 1e-2)),
]


class Trial(NamedTuple):
    """What a worker needs to run one trial."""

    parent: str
    number: int
    params: dict[str, Any]
    epochs: int


class Result(NamedTuple):
    """What came out of a trial."""

    run_id: str
    name: str
    kind: str
    accuracy: float


def classifier(params: dict[str, Any]) -> Any:
    """The untrained classifier that the params describe."""
    if params["kind"] == "sgd":
        return SGDClassifier(
            loss="log_loss", alpha=params["alpha"], penalty=params["penalty"], random_state=0
        )
    return MLPClassifier((params["hidden"],), learning_rate_init=params["lr"], random_state=0)


def run_trial(trial: Trial) -> Result:
    """Train one classifier epoch by epoch, in a worker process."""
    digits = load_digits()
    train_x, val_x, train_y, val_y = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    scaler = StandardScaler().fit(train_x)
    train_x, val_x = scaler.transform(train_x), scaler.transform(val_x)
    model = classifier(trial.params)
    order = np.random.default_rng(trial.number)
    name = f"{trial.params['kind']}-{trial.number:02}"

    with start_run(EXPERIMENT, name, params=trial.params, parent=trial.parent) as run:
        run.log_dataset("digits", digits.data, source="sklearn.datasets.load_digits")
        accuracy = 0.0
        for epoch in range(trial.epochs):
            for rows in np.array_split(order.permutation(len(train_x)), 20):
                model.partial_fit(train_x[rows], train_y[rows], classes=CLASSES)
            predicted = model.predict(val_x)
            accuracy = float((predicted == val_y).mean())
            run.log(
                {
                    "train_loss": log_loss(train_y, model.predict_proba(train_x), labels=CLASSES),
                    "val_accuracy": accuracy,
                    "val_f1": f1_score(val_y, predicted, average="macro"),
                },
                step=epoch,
            )
        with tempfile.TemporaryDirectory() as folder:
            report(Path(folder), val_y, model.predict(val_x))
            run.log_artifacts(folder)
            pickled = Path(folder) / "model.joblib"
            joblib.dump({"scaler": scaler, "classifier": model}, pickled)
            run.log_artifact(pickled, "model")
        return Result(run.run_id, name, trial.params["kind"], accuracy)


def report(folder: Path, labels: Any, predicted: Any) -> None:
    """Write what people look at after a trial: a table, an image, numbers and a page."""
    matrix = confusion_matrix(labels, predicted)
    np.savetxt(folder / "confusion_matrix.csv", matrix, "%d", ",")
    (folder / "confusion_matrix.png").write_bytes(png(255 - 255 * matrix // matrix.max()))
    scores = classification_report(labels, predicted, output_dict=True, zero_division=0)
    (folder / "scores.json").write_text(json.dumps(scores, indent=2))
    worst = min(CLASSES, key=lambda digit: scores[str(digit)]["f1-score"])
    rows = "".join(
        f"<tr><td>{digit}</td><td>{scores[str(digit)]['f1-score']:.3f}</td></tr>"
        for digit in CLASSES
    )
    (folder / "report.html").write_text(
        f"<!doctype html><title>Digits</title><h1>F1 of each digit</h1><table>{rows}</table>"
    )
    (folder / "notes.md").write_text(f"# Digits\n\nHardest to read: **{worst}**.\n")


def png(grey: Any, scale: int = 16) -> bytes:
    """Return an image of the matrix ``grey`` (0 is black, 255 white), ``scale`` pixels a cell."""
    pixels = np.kron(grey, np.ones((scale, scale))).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def sweep(workers: int, epochs: int) -> dict[str, Result]:
    """Run all trials under one parent run; returns the best of each kind."""
    with start_run(EXPERIMENT, "sweep", params={"trials": len(TRIALS)}) as parent:
        trials = [Trial(parent.run_id, i, params, epochs) for i, params in enumerate(TRIALS)]
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            best: dict[str, Result] = {}
            for i, result in enumerate(pool.imap_unordered(run_trial, trials)):
                print(f"  {result.name}  val_accuracy {result.accuracy:.4f}", flush=True)  # noqa: T201
                rival = best.setdefault(result.kind, result)
                best[result.kind] = max(rival, result, key=lambda r: r.accuracy)
                accuracy = max(r.accuracy for r in best.values())
                parent.log({"best_val_accuracy": accuracy}, step=i)
            # Let the workers end by themselves: what they still have to deliver, they deliver.
            pool.close()
            pool.join()
        parent.set_tags({f"best_{kind}": result.run_id for kind, result in best.items()})
    return best


def main() -> None:
    """Run the sweep and print its winner."""
    parser = argparse.ArgumentParser(description="A sweep over classifiers of digits.")
    parser.add_argument("--workers", type=int, default=2, help="processes at once")
    parser.add_argument("--epochs", type=int, default=15, help="epochs a trial")
    arguments = parser.parse_args()
    began = time.monotonic()
    winners = sorted(sweep(arguments.workers, arguments.epochs).values(), key=lambda r: r.accuracy)
    # The registry is not waited for: a server takes the requests over when it reads them.
    for winner in winners:
        with start_run(EXPERIMENT, run_id=winner.run_id) as run:
            description = f"Best {winner.kind} of {len(TRIALS)} trials"
            run.register_model(MODEL, "model", description=description)
    took, best = time.monotonic() - began, winners[-1]
    print(f"{len(TRIALS)} trials in {took:.0f} s; the best is {best.name} ({best.accuracy:.4f})")  # noqa: T201


if __name__ == "__main__":
    # One thread a process: the processes are what runs side by side.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
