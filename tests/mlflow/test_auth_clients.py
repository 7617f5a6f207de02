"""Unmodified MLflow clients, and our own, signing in to a server with ``--auth``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api_server import Server, modeltrail
from mlflow_client import MlflowClient
from modeltrail.api.cli import main

ADMIN = "the first password"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks everybody; nothing is allowed by default."""
    data = tmp_path_factory.mktemp("auth") / "data"
    env = {"MODELTRAIL_ADMIN_PASSWORD": ADMIN}
    server = Server(data, "--auth", "--default-permission", "none", env=env)
    try:
        server.ready()
        yield server
    finally:
        server.stop()


SHARED = """
import os, types
import mlflow.server
# The package needs what only its server side has; the client in it does not.
package = sys.modules["mlflow.server.auth"] = types.ModuleType("mlflow.server.auth")
package.__path__ = [os.path.join(mlflow.server.__path__[0], "auth")]
from mlflow.server.auth.client import AuthServiceClient
auth = AuthServiceClient(os.environ["MLFLOW_TRACKING_URI"])
V = mlflow.__version__.split(".")[0]

def sign_in(user=None, password=None, token=None):
    for name, value in (("USERNAME", user), ("PASSWORD", password), ("TOKEN", token)):
        os.environ.pop("MLFLOW_TRACKING_" + name, None)
        if value is not None:
            os.environ["MLFLOW_TRACKING_" + name] = value

def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except MlflowException as error:
        assert error.error_code == code, (error.error_code, str(error))
        return
    raise AssertionError(f"{call} was not refused")

admin = "admin", os.environ["ADMIN"]
ada, bob = f"ada{V}", f"bob{V}"
long = "a long enough password"
"""

USERS = """
sign_in(*admin)
user = auth.create_user(ada, long)
assert (user.username, user.is_admin) == (ada, False)
assert auth.create_user(bob, long).id != user.id
refused("RESOURCE_ALREADY_EXISTS", auth.create_user, ada, long)
refused("INVALID_PARAMETER_VALUE", auth.create_user, "x" + V, "short")
refused("RESOURCE_DOES_NOT_EXIST", auth.get_user, "nobody")
auth.update_user_admin(ada, True)
assert auth.get_user(ada).is_admin
auth.update_user_admin(ada, False)

refused("UNAUTHENTICATED", (sign_in(ada, "wrong"), client.search_experiments)[1])
refused("UNAUTHENTICATED", (sign_in(), client.search_experiments)[1])
refused("UNAUTHENTICATED", (sign_in(token="mt_x"), client.search_experiments)[1])

sign_in(ada, long)
assert auth.get_user(ada).username == ada
refused("PERMISSION_DENIED", auth.get_user, bob)
refused("PERMISSION_DENIED", auth.create_user, "y" + V, long)
refused("PERMISSION_DENIED", auth.update_user_admin, ada, True)
if V == "3":
    auth.update_user_password(ada, long + "!", current_password=long)
else:
    auth.update_user_password(ada, long + "!")
refused("UNAUTHENTICATED", auth.get_user, ada)
sign_in(ada, long + "!")

# What ada creates she manages; nobody else sees it.
mine = f"/team{V}/mine"
mlflow.set_experiment(mine)
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1.0)
    mlflow.log_param("p", 1)
    mlflow.set_tag("mlflow.user", "somebody else")
    mlflow.log_text("hello", "a/b.txt")
run_id, experiment_id = run.info.run_id, run.info.experiment_id
assert mlflow.artifacts.load_text(f"runs:/{run_id}/a/b.txt") == "hello"
client.create_registered_model("m" + V)
version = client.create_model_version("m" + V, f"runs:/{run_id}/a", run_id)
client.set_registered_model_alias("m" + V, "champion", version.version)

sign_in(bob, long)
assert [e.name for e in client.search_experiments() if V in e.name] == []
assert client.search_runs([experiment_id]) == []
assert [m.name for m in client.search_registered_models()] == []
refused("PERMISSION_DENIED", client.get_experiment, experiment_id)
refused("PERMISSION_DENIED", client.get_run, run_id)
refused("PERMISSION_DENIED", client.log_metric, run_id, "m", 2.0)
refused("PERMISSION_DENIED", client.get_model_version_by_alias, "m" + V, "champion")
refused("PERMISSION_DENIED", client.delete_experiment, experiment_id)
refused("PERMISSION_DENIED", client.create_run, "0")
"""

OLD = """
sign_in(ada, long + "!")
refused("RESOURCE_DOES_NOT_EXIST", auth.get_experiment_permission, experiment_id, bob)
granted = auth.create_experiment_permission(experiment_id, bob, "READ")
assert (granted.experiment_id, granted.permission) == (experiment_id, "READ")
refused("RESOURCE_ALREADY_EXISTS", auth.create_experiment_permission, experiment_id, bob, "READ")
refused("INVALID_PARAMETER_VALUE", auth.update_experiment_permission, experiment_id, bob, "ALL")
sign_in(bob, long)
assert client.get_run(run_id).data.metrics == {"m": 1.0}
assert [r.info.run_id for r in client.search_runs([experiment_id])] == [run_id]
refused("PERMISSION_DENIED", client.log_metric, run_id, "m", 2.0)
refused("PERMISSION_DENIED", auth.update_experiment_permission, experiment_id, bob, "EDIT")
sign_in(ada, long + "!")
auth.update_experiment_permission(experiment_id, bob, "EDIT")
assert auth.get_experiment_permission(experiment_id, bob).permission == "EDIT"
sign_in(*admin)
assert [p.permission for p in auth.get_user(bob).experiment_permissions] == ["EDIT"]
sign_in(bob, long)
client.log_metric(run_id, "m", 2.0)
sign_in(ada, long + "!")
auth.delete_experiment_permission(experiment_id, bob)
refused("RESOURCE_DOES_NOT_EXIST", auth.delete_experiment_permission, experiment_id, bob)
assert auth.create_registered_model_permission("m2", bob, "READ").name == "m2"
assert auth.get_registered_model_permission("m2", bob).permission == "READ"
auth.update_registered_model_permission("m2", bob, "MANAGE")
sign_in(bob, long)
assert client.get_model_version_by_alias("m2", "champion").version in (1, "1")
auth.delete_registered_model_permission("m2", ada)
sign_in(ada, long + "!")
refused("PERMISSION_DENIED", client.get_registered_model, "m2")
"""

NEW = """
sign_in(ada, long + "!")
auth.grant_user_permission(bob, "experiment", experiment_id, "EDIT")
again = bob, "experiment", experiment_id, "READ"
refused("RESOURCE_ALREADY_EXISTS", auth.grant_user_permission, *again)
sign_in(bob, long)
client.log_metric(run_id, "m", 2.0)
found = auth.get_user_permission(bob, "experiment", experiment_id)
assert (found.allowed, found.permission) == (True, "EDIT")
refused("PERMISSION_DENIED", auth.revoke_user_permission, bob, "experiment", experiment_id)
sign_in(ada, long + "!")
auth.revoke_user_permission(bob, "experiment", experiment_id)
refused("RESOURCE_DOES_NOT_EXIST", auth.revoke_user_permission, bob, "experiment", experiment_id)
refused("PERMISSION_DENIED", auth.grant_user_permission, bob, "experiment", "*", "READ")
refused("INVALID_PARAMETER_VALUE", auth.grant_user_permission, bob, "scorer", "1/x", "READ")
sign_in(*admin)
assert not auth.get_user_permission(bob, "experiment", experiment_id).allowed
auth.grant_user_permission(bob, "registered_model", "m*", "READ")
role = auth.create_role("default", "team", "a team")
assert (role.name, role.workspace, role.description) == ("team", "default", "a team")
refused("RESOURCE_ALREADY_EXISTS", auth.create_role, "default", "team")
one = auth.add_role_permission(role.id, "experiment", "/team3/*", "READ")
assert (one.resource_pattern, one.permission) == ("/team3/*", "READ")
assert auth.update_role_permission(one.id, "EDIT").permission == "EDIT"
assert [p.id for p in auth.list_role_permissions(role.id)] == [one.id]
assert auth.assign_role(bob, role.id).role_id == role.id
assert [r.name for r in auth.list_user_roles(bob)] == ["team"]
assert len(auth.list_role_users(role.id)) == 1
assert auth.update_role(role.id, name="squad").name == "squad"
assert [r.name for r in auth.list_roles("default")] == ["squad"]
assert [r.name for r in auth.list_all_roles()] == ["squad"]
assert auth.get_role(role.id).permissions[0].permission == "EDIT"
sign_in(bob, long)
client.log_metric(run_id, "m", 3.0)
assert client.get_model_version_by_alias("m3", "champion").version in (1, "1")
refused("PERMISSION_DENIED", auth.get_role, role.id)
sign_in(*admin)
auth.unassign_role(bob, role.id)
auth.remove_role_permission(one.id)
auth.delete_role(role.id)
refused("RESOURCE_DOES_NOT_EXIST", auth.get_role, role.id)
sign_in(bob, long)
refused("PERMISSION_DENIED", client.log_metric, run_id, "m", 3.0)
"""

END = """
sign_in(*admin)
refused("BAD_REQUEST", auth.delete_user, "admin")
auth.delete_user(bob)
refused("UNAUTHENTICATED", (sign_in(bob, long), client.search_experiments)[1])
print(json.dumps([run_id, ada]))
"""


def test_users_and_permissions(mlflow_client: MlflowClient, server: Server) -> None:
    script = SHARED + USERS + 'exec(os.environ["NEW" if V == "3" else "OLD"], globals())\n' + END
    out = mlflow_client.run(script, ADMIN=ADMIN, NEW=NEW, OLD=OLD)
    run_id, ada = json.loads(out.splitlines()[-1])
    env = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": ADMIN}
    asked = (
        "SELECT actor, actor_verified FROM audit WHERE type = 'CreateModelVersion' AND actor = ?"
    )
    found = modeltrail("sql", asked, "--param", ada, "--json", "--server", server.url, env=env)
    assert json.loads(found.stdout)["rows"] == [[ada, True]]
    asked = "SELECT actor FROM runs WHERE run_id = ?"
    found = modeltrail("sql", asked, "--param", run_id, "--json", "--server", server.url, env=env)
    assert json.loads(found.stdout)["rows"] == [[ada]]


JOB = """
from modeltrail.producers import start_run
with start_run(experiment="/sdk/jobs") as run:
    run.log({"loss": 1.0})
    run.log({"loss": 0.5})
print(run.run_id)
"""


Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process, as it takes a while to start many."""
    for name in os.environ:
        if name.startswith(("MODELTRAIL", "MLFLOW")):
            monkeypatch.delenv(name)

    def run(*args: str, code: int = 0, stdin: str | None = None, **env: str) -> str:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", io.StringIO(stdin or ""))
            got = main(args)
        out, err = capsys.readouterr()
        assert got == code, err
        return out if code == 0 else err

    return run


def test_commands_and_training_jobs(server: Server, command: Command, tmp_path: Path) -> None:
    def run(*args: str, code: int = 0, **more: str) -> str:
        env = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": ADMIN, **more}
        return command(*args, "--server", server.url, code=code, **env)

    run("user", "create", "ci", "--no-password")
    token = run("token", "create", "ci", "--expires", "1d", "--description", "nightly").strip()
    assert token.startswith("mt_")
    assert token not in run("token", "list", "--json")
    run("permission", "grant", "ci", "EDIT", "--experiment", "/sdk/*", "--reason", "its job")
    (granted,) = json.loads(run("permission", "list", "--user", "ci", "--json"))
    assert (granted["pattern"], granted["reason"]) == ("/sdk/*", "its job")
    done = subprocess.run(
        [sys.executable, "-c", JOB],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("MODELTRAIL")},
            "MODELTRAIL_URL": server.url,
            "MODELTRAIL_TOKEN": token,
            "MODELTRAIL_OUTBOX": str(tmp_path / "outbox"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    run_id = done.stdout.strip()
    asked = "SELECT actor, status, complete FROM runs WHERE run_id = ?"
    found = json.loads(run("sql", asked, "--param", run_id, "--json"))["rows"]
    assert found == [["ci", "FINISHED", True]], done.stderr
    refused = run("user", "create", "x", "--no-password", code=1, MODELTRAIL_TOKEN=token)
    assert "Permission denied" in refused
    assert "You are not authenticated" in run("user", "list", code=1, MODELTRAIL_TOKEN="mt_x")
    (kept,) = json.loads(run("token", "list", "--user", "ci", "--json"))
    run("token", "revoke", str(kept["token_id"]))
    run("status", code=1, MODELTRAIL_TOKEN=token)
    run("permission", "revoke", "ci", "--experiment", "/sdk/*")
    run("user", "delete", "ci")


def test_users_before_the_first_start(command: Command, tmp_path: Path) -> None:
    where = ("--data", str(tmp_path / "data"))
    command("user", "create", "root", "--admin", *where, MODELTRAIL_NEW_PASSWORD=ADMIN)
    assert "12 characters" in command("user", "create", "x", *where, code=1, stdin="short\n")
    assert "no password" in command("user", "create", "x", *where, code=1)
    command("rebuild", *where)
    listed = json.loads(command("user", "list", *where, "--json"))
    assert [(user["user"], user["admin"]) for user in listed] == [("root", True)]
    server = Server(tmp_path / "data", "--auth")
    try:
        server.ready()
        signed = {"MLFLOW_TRACKING_USERNAME": "root", "MLFLOW_TRACKING_PASSWORD": ADMIN}
        command("user", "list", "--server", server.url, **signed)
    finally:
        _, out, err = server.stop()
    assert "password" not in out + err  # nobody else was made


def test_a_first_administrator_is_told_once(tmp_path: Path) -> None:
    passwords = []
    for _ in range(2):
        server = Server(tmp_path / "data", "--auth")
        server.ready()
        _, _, err = server.stop()
        passwords += [
            line.split()[1] for line in err.splitlines() if line.startswith("      password")
        ]
    assert len(passwords) == 1
    assert len(passwords[0]) >= 16
