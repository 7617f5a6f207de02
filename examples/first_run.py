"""What `make run` does: serve a folder and, the first time, log a real sweep into it.

The sweep leaves two versions of a model. They are promoted, one request is refused, and the
promotion is rolled back, so that every page has something to show.

python examples/first_run.py [--port 5000] [--data ./modeltrail-data]
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "modeltrail"
MODEL = "digits-classifier"
VERSIONS = 2
START_TIMEOUT_S = 60.0

QUESTIONS = {
    "Which trials were best, and with which params?": """
        SELECT r.name, round(m.value, 4) AS val_accuracy,
               string_agg(p.key || '=' || p.value, ' ' ORDER BY p.key) AS params
        FROM runs r
        JOIN latest_metrics m ON m.run_id = r.run_id AND m.key = 'val_accuracy'
        JOIN params p ON p.run_id = r.run_id
        GROUP BY ALL ORDER BY val_accuracy DESC, r.name LIMIT 5""",
    "How fast did each kind of model learn?": """
        SELECT k.value AS kind, m.step, round(avg(m.value), 4) AS mean_val_accuracy
        FROM metrics m JOIN params k ON k.run_id = m.run_id AND k.key = 'kind'
        WHERE m.key = 'val_accuracy' AND m.step IN (0, 4, 9, 14)
        GROUP BY ALL ORDER BY kind, m.step""",
    "Who promoted what, when and why?": """
        SELECT model, alias, version, set_by, strftime(set_at, '%H:%M:%S') AS at, reason
        FROM aliases""",
}


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201


def call(
    method: str, url: str, body: dict[str, Any] | None = None, actor: str = getpass.getuser()
) -> Any:
    """Make one request of the API; returns its JSON."""
    data = None if body is None else json.dumps(body).encode()
    # A server without --auth accepts this name and records that it is not verified.
    headers = {"Content-Type": "application/json", "X-Modeltrail-Actor": actor}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def healthy(url: str) -> bool:
    """Does a server answer there?"""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def port_is_free(port: int) -> bool:
    """Can a server listen there?"""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start(port: int, data: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it is healthy."""
    server = subprocess.Popen([PROGRAM, "serve", "--port", str(port), "--data", data])
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_TIMEOUT_S
    while not healthy(url):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with status {server.returncode}; see above")
        if time.monotonic() > deadline:
            server.terminate()
            raise SystemExit(f"the server did not become healthy in {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    return server


def sql(data: Path, query: str) -> str:
    """The answer of `modeltrail sql`, as a table."""
    done = subprocess.run(
        [PROGRAM, "sql", "--data", data, " ".join(query.split())],
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout or done.stderr).rstrip()


def fill(url: str, script: str) -> None:
    """Log the runs of a script through the server."""
    # One thread a process: the trials are what runs side by side.
    settings = {"MODELTRAIL_URL": url, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, HERE / script], env={**os.environ, **settings}, check=True)


def rows(url: str, statement: str) -> list[list[Any]]:
    """The rows of a query, as JSON gives them."""
    answer = call("POST", f"{url}/api/v1/sql", {"statement": statement})
    return list(answer["rows"])


def versions(url: str) -> list[tuple[int, float]]:
    """Wait for the versions that the sweep asked for; returns their numbers and accuracies."""
    deadline = time.monotonic() + START_TIMEOUT_S
    query = f"""
        SELECT v.version, m.value FROM model_versions v
        JOIN latest_metrics m ON m.run_id = v.run_id AND m.key = 'val_accuracy'
        WHERE v.model = '{MODEL}' ORDER BY v.version"""
    while len(found := rows(url, query)) < VERSIONS:
        if time.monotonic() > deadline:
            raise SystemExit(f"no version of {MODEL} appeared; see {url}/health")
        time.sleep(0.1)
    return [(version, accuracy) for version, accuracy in found]


def promote(url: str) -> None:
    """Promote both versions, one after the other, lose a race, and roll back.

    Each request says which version it is to replace, so that only one of two pipelines wins.
    """
    (first, accuracy), (second, better) = versions(url)
    model_url = f"{url}/api/v1/models/{MODEL}"

    def champion(version: int, expected: int, reason: str, actor: str) -> None:
        fields = {"version": version, "expected": expected, "reason": reason}
        call("PUT", f"{model_url}/aliases/champion", fields, actor)

    def stage(version: int, stage: str, reason: str, actor: str) -> None:
        fields = {"stage": stage, "reason": reason}
        call("PUT", f"{model_url}/versions/{version}/stage", fields, actor)

    # Only if no other version has become the champion meanwhile: 0 means there is none.
    champion(first, 0, f"first of the sweep: val_accuracy {accuracy:.4f}", "ada")
    stage(first, "Production", "first release", "ada")
    stage(second, "Staging", "shadow traffic for a day", "grace")
    champion(second, first, f"better in the sweep: val_accuracy {better:.4f}", "grace")
    comment = {"text": "Reads sevens with a bar as twos: see the scanned forms."}
    call("POST", f"{model_url}/versions/{second}/comments", comment, "ada")
    try:
        champion(first, first, "nightly refresh", "nightly")
    except urllib.error.HTTPError as refused:
        say(f"Refused, as @champion was no longer version {first}: {json.load(refused)['message']}")
    champion(first, second, "rollback: wrong on scanned forms, incident 41", "ada")
    say(f"{MODEL} has {VERSIONS} versions; after a rollback, version {first} is @champion.")


def show(url: str, data: Path) -> None:
    """The first time fill the folder; then say where to look and answer the questions."""
    say(f"\nOpen {url} in a browser.")
    if not rows(url, "SELECT 1 FROM runs LIMIT 1"):
        say("The folder is empty: running a sweep of twelve trials into it (half a minute) ...")
        fill(url, "digits_sweep.py")
        fill(url, "troubled_runs.py")
        promote(url)
    for number, (question, query) in enumerate(QUESTIONS.items(), 1):
        command = f"modeltrail sql --data {shlex.quote(str(data))} ..."
        say(f"\n{number}. {question}   ({command})")
        say("\n".join(f"     {line.strip()}" for line in query.strip().splitlines()))
        say(sql(data, query))


def main() -> None:
    """Serve, fill an empty folder, show it, and go on serving."""
    parser = argparse.ArgumentParser(description="Serve a folder; fill it the first time.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--data", type=Path, default=Path("modeltrail-data"))
    arguments = parser.parse_args()
    port, data = arguments.port, arguments.data
    if not port_is_free(port):
        raise SystemExit(
            f"port {port} is taken. Stop what listens there, or take another: "
            f"make run PORT={port + 1}"
        )
    url = f"http://127.0.0.1:{port}"
    server = start(port, data)
    # From here on Ctrl-C and SIGTERM end the server, and the server ends this.
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        show(url, data)
        say(f"\nServing {url} from {data} until Ctrl-C.")
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if server.poll() is None:
            server.terminate()
        server.wait()
    raise SystemExit(server.returncode)


if __name__ == "__main__":
    main()
