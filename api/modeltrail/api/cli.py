"""The command `modeltrail`. Commands import what they need, so that help appears at once."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from modeltrail.api.commands import options, verbs
from modeltrail.api.commands.options import Parser, flag, option
from modeltrail.api.imports import leave_out_pandas

_GROUPS = {
    "look at runs and the registry": (
        *("open", "runs", "run", "compare", "sql", "audit", "status", "doctor"),
    ),
    "change the registry": ("experiment", "model", "version", "alias", "stage"),
    "run a server": ("serve", "user", "token", "role", "permission", "webhooks"),
    "move data": ("artifacts", "export", "import", "sync"),
    "look after the data folder": ("backup", "restore", "replay", "rebuild"),
}

_EPILOG = """\
examples:
  modeltrail serve                                    start on the folder ./modeltrail-data
  modeltrail runs --filter "metrics.loss < 0.1"       list runs
  modeltrail sql "FROM runs LIMIT 10"                 query everything with SQL
  modeltrail audit log --model digits                 who changed a model, when and why

environment:
  MODELTRAIL_URL     folder or server to use (default: ./modeltrail-data)
  MODELTRAIL_TOKEN   token for a server with --auth

exit codes: 0 success, 1 failure or a problem was found, 2 wrong usage
"""


class _Overview(Parser):
    """The top-level parser, whose help groups the commands by purpose."""

    def format_help(self) -> str:
        """Return the overview of all commands."""
        styled = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        bold, plain = ("\x1b[1m", "\x1b[0m") if styled else ("", "")
        (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        helps = {action.dest: action.help for action in commands._choices_actions}
        grouped = {name for names in _GROUPS.values() for name in names}
        groups = {**_GROUPS, "more": tuple(name for name in helps if name not in grouped)}
        lines = [
            f"{bold}modeltrail{plain}: {self.description}",
            "",
            "  modeltrail COMMAND …         run a command",
            "  modeltrail COMMAND --help    show its options, with examples",
        ]
        for title, names in groups.items():
            present = [name for name in names if name in helps]
            if present:
                lines += ["", f"{bold}{title}{plain}"]
                lines += [f"  {name:<12} {helps[name]}" for name in present]
        return "\n".join([*lines, "", self.epilog or ""])


def _add_data(parser: Parser, server: bool = False) -> None:
    option(
        parser,
        "--data",
        options.folder,
        "data folder (default: MODELTRAIL_URL or ./modeltrail-data)",
    )
    option(parser, "--log", options.log, "URL of the log, if it is not in the data folder")
    if server:
        option(parser, "--server", options.server, "use this server, such as http://host:5000")


def _add_json(to: Any) -> None:
    flag(to, "--json", "print JSON, for scripts")


def _serve(add: Callable[..., Parser]) -> None:
    p = add(
        "serve",
        "run the server",
        "  modeltrail serve --data ./modeltrail-data --port 5000\n"
        "  modeltrail serve --log kafka://broker:9092/modeltrail --data /var/lib/modeltrail\n"
        "  modeltrail serve --artifacts s3://bucket/prefix      (AWS_* variables)\n"
        "  modeltrail serve --host 0.0.0.0 --auth --allow-host trail.example.org",
        "serve:serve",
    )
    _add_data(p)
    option(
        p,
        "--host",
        options.text,
        "address to listen on (default: %(default)s)",
        default="127.0.0.1",
        metavar="HOST",
    )
    option(
        p,
        "--port",
        options.port,
        "port (default: %(default)s); 0 chooses a free one",
        default=5000,
        metavar="PORT",
    )
    flag(p, "--auth", "require a password or token; create users with: modeltrail user create")
    p.add_argument(
        "--default-permission",
        choices=["none", "read", "edit", "manage"],
        default="read",
        help="what users may do if no permission matches (default: %(default)s)",
    )
    option(
        p,
        "--allow-host",
        options.text,
        "also accept requests for this host name (repeatable; * for any)",
        metavar="NAME",
        repeat=True,
    )
    option(
        p,
        "--trusted-proxy",
        options.network,
        "trust X-Forwarded-For and X-Forwarded-Proto from this proxy or network, such as "
        "10.0.0.0/8 (repeatable)",
        repeat=True,
    )
    option(
        p,
        "--memory-limit",
        options.memory,
        "memory for DuckDB and queries, such as 4GB (default: half of the machine's)",
    )
    option(p, "--threads", options.whole(1, 1024), "threads of DuckDB (default: one for each core)")
    option(
        p,
        "--artifacts",
        options.artifacts,
        "where to store artifacts: a folder, s3://, gs://, az:// or abfss:// "
        "(default: MODELTRAIL_ARTIFACTS or the data folder)",
    )
    flag(
        p,
        "--presigned",
        "let MLflow clients transfer large artifacts directly to and from the object store, "
        "with signed URLs that are valid for hours",
    )
    option(
        p,
        "--artifact-limit",
        options.whole(1, 2**62),
        "maximum size of an artifact (default: %(default)s)",
        metavar="BYTES",
        default=64 * 1024**3,
    )
    option(
        p,
        "--heart-timeout",
        options.seconds(0.1, 1e9),
        "end a run after this time without a heartbeat (default: %(default)s)",
        default=180.0,
    )
    p.add_argument(
        "--webhooks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="deliver webhooks; if several servers share a log, only one should (default: yes)",
    )
    flag(p, "--allow-private-webhooks", "allow webhooks to private addresses, and over http")
    option(
        p,
        "--webhook-tries",
        options.whole(1, 1000),
        "attempts before a delivery becomes a dead letter (default: %(default)s)",
        default=15,
    )
    flag(
        p,
        "--accept-log",
        "continue although the log ends before what was folded or signed, or differs, "
        "for example after you restored an older backup; keep the old tables and checkpoints aside",
    )
    flag(p, "--access-log", "log every request")


def _sql(add: Callable[..., Parser]) -> None:
    p = add(
        "sql",
        "run an SQL query",
        '  modeltrail sql "SELECT status, count(*) FROM runs GROUP BY 1"\n'
        "  modeltrail sql --csv < question.sql\n"
        '  modeltrail sql "FROM metrics WHERE run_id = ?" --param 0af7… -o points.parquet\n'
        '  modeltrail sql "SHOW TABLES"',
        "query:sql",
    )
    _add_data(p, server=True)
    p.add_argument("statement", nargs="?", help="the query (default: read from standard input)")
    option(
        p, "--param", str, "value for a ? in the query (repeatable)", metavar="VALUE", repeat=True
    )
    option(
        p,
        "--limit",
        options.whole(0, 100_000_000),
        "maximum number of rows (default: 1000 in a table, otherwise all)",
    )
    option(
        p,
        "--timeout",
        options.seconds(0.001, 600),
        "time limit (default: %(default)s)",
        default=60.0,
    )
    option(
        p,
        "--width",
        options.whole(20, 100_000),
        "width of the table (default: the terminal's; unlimited if piped)",
    )
    how = p.add_mutually_exclusive_group()
    flag(how, "--json", "print JSON: columns, types, rows")
    flag(how, "--csv", "print CSV")
    how.add_argument(
        "-o",
        "--output",
        type=options.result_file,
        metavar="FILE",
        help="write to a file: .parquet, .csv, .json or .arrow",
    )


def _open(add: Callable[..., Parser]) -> None:
    p = add(
        "open",
        "open the web page in a browser",
        "  modeltrail open\n"
        "  modeltrail open runs/0af7651916cd43dd8448eb211c80319c\n"
        "  modeltrail open models/digits --server https://trail.example.org\n"
        "  modeltrail open --print                             (only print the address)",
        "opening:open_page",
    )
    _add_data(p, server=True)
    option(
        p,
        "page",
        options.text,
        "such as sql, audit, runs/ID or models/NAME (default: the runs)",
        metavar="PAGE",
        nargs="?",
    )
    p.add_argument(
        "--print",
        dest="only_print",
        action="store_true",
        help="print the address and open nothing",
    )


def _runs(add: Callable[..., Parser]) -> None:
    p = add(
        "runs",
        "list runs, newest first",
        "  modeltrail runs --experiment /vision/digits\n"
        "  modeltrail runs --filter \"metrics.val_acc > 0.9 and params.lr = '0.1'\"\n"
        '  modeltrail runs --order-by "metrics.loss ASC" --columns metrics.loss,params.lr\n'
        "  modeltrail runs --server https://trail.example.org --json",
        "runs:runs",
    )
    _add_data(p, server=True)
    option(p, "--filter", options.text, "filter, as in MLflow's search_runs")
    option(
        p,
        "--experiment",
        options.text,
        "only runs of this experiment, by name or id (repeatable)",
        metavar="NAME",
        repeat=True,
    )
    option(p, "--order-by", options.text, 'such as "metrics.loss ASC" (repeatable)', repeat=True)
    option(
        p,
        "--columns",
        options.columns,
        "such as metrics.loss,params.lr,tags.team (default: some metrics and the params that "
        "differ)",
    )
    option(
        p,
        "--limit",
        options.whole(1, 1_000_000),
        "maximum number of runs (default: %(default)s)",
        default=30,
    )
    flag(p, "--deleted", "list deleted runs instead")
    _add_formats(p)
    p = add(
        "run",
        "show a run: status, metrics, params, tags, files",
        "  modeltrail run 0af7651916cd\n  modeltrail run trial-7 --json",
        "runs:run",
    )
    _add_data(p, server=True)
    _add_run(p)
    _add_json(p)
    p = add(
        "compare",
        "compare runs: the params that differ, and the metrics",
        "  modeltrail compare trial-7 trial-9",
        "runs:compare",
    )
    _add_data(p, server=True)
    option(
        p,
        "runs",
        options.text,
        "two or more runs: id, the beginning of an id, or name",
        metavar="RUN",
        nargs="+",
    )
    flag(p, "--all", "also show what is the same in all runs")
    _add_formats(p)
    artifacts = add(
        "artifacts",
        "download the files of runs",
        "  modeltrail artifacts get trial-7 --to ./trial-7\n"
        "  modeltrail artifacts get 0af7651916cd model --to .",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _command(
        artifacts,
        "get",
        "download a run's files",
        "runs:artifacts_get",
        description="Download all or some files of a run. A file appears whole or not at all. "
        "Files that are already there are not downloaded again.",
    )
    _add_data(p, server=True)
    _add_run(p)
    option(
        p,
        "path",
        options.text,
        "file or folder of the run (default: all)",
        metavar="PATH",
        nargs="?",
    )
    option(
        p,
        "--to",
        options.folder,
        "folder to download into (default: the current folder)",
        default=".",
    )
    _add_json(p)


def _add_run(parser: Parser) -> None:
    option(parser, "run", options.text, "id, the beginning of an id, or name", metavar="RUN")


def _add_formats(parser: Parser) -> None:
    how = parser.add_mutually_exclusive_group()
    _add_json(how)
    flag(how, "--csv", "print CSV")


def _replay(add: Callable[..., Parser]) -> None:
    p = add(
        "replay",
        "build a database of an earlier moment",
        "  modeltrail replay --until 2026-03-01T12:00:00Z --into march.duckdb\n"
        "  modeltrail replay --until registry:0:17 --into before.duckdb",
        "folding:replay",
    )
    _add_data(p)
    option(p, "--until", options.moment, "the moment, inclusive (default: now)")
    option(p, "--into", options.text, "DuckDB file to create", metavar="FILE", required=True)
    _add_json(p)
    p = add(
        "rebuild",
        "rebuild the database from the log",
        "  modeltrail rebuild --data ./modeltrail-data      (stop the server first)",
        "folding:rebuild",
    )
    _add_data(p)
    _add_json(p)


def _audit(add: Callable[..., Parser]) -> None:
    p = add(
        "audit",
        "read or verify the audit trail",
        "  modeltrail audit log --model digits --alias champion\n"
        "  modeltrail audit verify\n"
        "  modeltrail audit verify --artifacts --model digits",
        None,
    )
    groups = p.add_subparsers(dest="what", metavar="COMMAND", required=True)
    log = _command(
        groups,
        "log",
        "show who did what, when and why, and what was refused",
        "trail:log",
        description="List the requests to the registry, oldest first.",
    )
    _add_data(log, server=True)
    for name, type, help in (
        ("model", options.text, "only this registered model"),
        ("alias", options.text, "only this alias"),
        ("experiment", options.text, "only this experiment, by name or id"),
        ("actor", options.text, "only requests of this user"),
        ("type", options.request_type, "only this event type, such as SetRegisteredModelAlias"),
        ("since", options.past, "only requests appended at or after this time"),
        ("until", options.past, "only requests appended before this time"),
    ):
        option(log, f"--{name}", type, help, metavar=name.upper())
    option(log, "--version", options.whole(1, 2**53), "only this version of the model")
    flag(log, "--refused", "only refused requests")
    option(
        log,
        "--limit",
        options.whole(1, 10_000_000),
        "show the newest N (default: %(default)s)",
        default=1000,
    )
    _add_json(log)
    verify = _command(
        groups,
        "verify",
        "check that the log was not changed",
        "trail:verify",
        description="Compute the hash chain of every partition from the raw log, and compare it "
        "with the tables (of the running server, if there is one) and with the signed checkpoints. "
        "Writes nothing. The exit code is 1 if anything differs.",
    )
    _add_data(verify)
    option(
        verify,
        "--checkpoints",
        options.text,
        "signed checkpoints to compare with (default: those in the data folder)",
        metavar="FILE",
    )
    option(
        verify,
        "--trust",
        options.public_key,
        "public key to trust (repeatable; default: every key that the file names)",
        repeat=True,
    )
    verify.add_argument(
        "--artifacts",
        metavar="URL",
        nargs="?",
        const="",
        help="also read every recorded file and compare its size and SHA-256; URL is where the "
        "files are stored, if not where the server stores them",
    )
    option(verify, "--run", options.text, "only the files of this run", metavar="ID")
    option(
        verify, "--model", options.text, "only the files of this registered model", metavar="NAME"
    )
    _add_json(verify)


def _operate(add: Callable[..., Parser]) -> None:
    p = add(
        "sync",
        "deliver what training jobs left in their outboxes",
        "  modeltrail sync\n  modeltrail sync --outbox /scratch/outbox --to http://host:5000",
        "operation:sync",
    )
    option(
        p,
        "--outbox",
        options.folder,
        "folder of outboxes (default: MODELTRAIL_OUTBOX or the user's state folder)",
    )
    option(
        p,
        "--to",
        options.target,
        "deliver to this target instead of the one that each job logged to",
    )
    option(p, "--timeout", options.seconds(0, 1e9), "stop after this time")
    _add_json(p)
    p = add(
        "status",
        "show the state of a server or folder",
        "  modeltrail status\n  modeltrail status --server http://host:5000 --json",
        "operation:status",
    )
    _add_data(p, server=True)
    _add_json(p)
    p = add(
        "doctor",
        "find problems, and say how to repair them",
        "  modeltrail doctor --data ./modeltrail-data\n"
        "  modeltrail doctor --log kafka://broker:9092/modeltrail",
        "doctor:doctor",
    )
    _add_data(p, server=True)
    flag(p, "--repair", "make the data folder private to its owner")
    _add_json(p)
    p = add(
        "export",
        "write runs, params, tags and metrics to files",
        "  modeltrail export --into ./out\n"
        "  modeltrail export --into ./out --format csv --experiment /vision/digits",
        "query:export",
    )
    _add_data(p, server=True)
    option(p, "--into", options.folder, "folder to write to; created if missing", required=True)
    p.add_argument(
        "--format", choices=["parquet", "csv"], default="parquet", help="default: %(default)s"
    )
    option(p, "--experiment", options.text, "only the runs of this experiment", metavar="NAME")
    _add_json(p)


def _backup(add: Callable[..., Parser]) -> None:
    p = add(
        "backup",
        "copy a data folder, even while a server is running, and verify the copy",
        "  modeltrail backup /backups/monday\n"
        "  modeltrail backup /backups/monday.tar.gz --keys --artifacts",
        "backup:backup",
    )
    p.add_argument(
        "target", metavar="TARGET", help="folder to create, or file: .tar, .tar.gz or .tgz"
    )
    _add_data(p)
    flag(p, "--keys", "include the keys; keep the backup secret")
    flag(p, "--artifacts", "include the artifact files")
    flag(p, "--replace", "replace an existing backup")
    _add_json(p)
    p = add(
        "restore",
        "create a data folder from a backup, and verify it",
        "  modeltrail restore /backups/monday.tar.gz --data ./restored\n"
        "  modeltrail serve --data ./restored",
        "backup:restore",
    )
    p.add_argument("source", metavar="SOURCE", help="folder or file of the backup")
    p.add_argument(
        "--data",
        metavar="FOLDER",
        required=True,
        help="data folder to create; must be empty or not exist",
    )
    _add_json(p)


def _access(add: Callable[..., Parser]) -> None:
    user = add(
        "user",
        "manage users, who sign in to a server with --auth",
        "  modeltrail user create ada --admin\n"
        "  modeltrail user create ci --no-password\n"
        "  modeltrail user list --json",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(user, "create", "create a user", "access:user_create")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument("--admin", action="store_true", help="let the user do everything")
    p.add_argument(
        "--no-password", action="store_true", help="let the user sign in with tokens only"
    )
    _add_reason(p)
    _one(user, "list", "list all users", "access:user_list")
    p = _one(
        user, "password", "set a user's password, and revoke their tokens", "access:user_password"
    )
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument("--keep-tokens", action="store_true", help="keep the user's tokens")
    _add_reason(p)
    p = _one(
        user, "delete", "delete a user, with their tokens and permissions", "access:user_delete"
    )
    p.add_argument("user", type=options.text, metavar="NAME")
    _add_reason(p)
    token = add(
        "token",
        "manage tokens, which sign in without a password",
        "  modeltrail token create ci --expires 90d --description 'nightly training'\n"
        "  modeltrail token revoke 17",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(token, "create", "create a token, and print it once", "access:token_create")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument(
        "--expires",
        type=options.expiry,
        metavar="TIME",
        help="such as 90d, 12h or 2027-01-31 (default: never)",
    )
    p.add_argument("--description", type=options.text, metavar="TEXT", help="what the token is for")
    _add_reason(p)
    p = _one(token, "list", "list all tokens, without their secrets", "access:token_list")
    p.add_argument("--user", type=options.text, metavar="NAME", help="only tokens of this user")
    p = _one(token, "revoke", "revoke a token", "access:token_revoke")
    p.add_argument("token_id", metavar="ID", type=options.whole(0, 2**53))
    _add_reason(p)
    permission = add(
        "permission",
        "manage permissions on experiments and registered models",
        "  modeltrail permission grant ada EDIT --experiment '/search-team/*'\n"
        "  modeltrail permission grant ci READ --model digits\n"
        "  modeltrail permission grant READ --role 17 --model 'search-*'",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(permission, "grant", "grant a permission, or deny access", "access:permission_grant")
    _add_holder(p)
    p.add_argument(
        "permission",
        metavar="PERMISSION",
        type=str.upper,
        choices=["READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS"],
        help="READ, USE, EDIT, MANAGE or NO_PERMISSIONS",
    )
    _add_of(p)
    _add_reason(p)
    p = _one(permission, "revoke", "revoke a permission", "access:permission_revoke")
    _add_holder(p)
    _add_of(p)
    _add_reason(p)
    p = _one(permission, "list", "list all permissions", "access:permission_list")
    p.add_argument(
        "--user", type=options.text, metavar="NAME", help="only permissions of this user"
    )


def _command(group: Any, name: str, help: str, command: str | None, **more: Any) -> Parser:
    said = {"help": help, "description": f"{help[0].upper()}{help[1:]}."}
    p: Parser = group.add_parser(name, **{**said, **more})
    p.set_defaults(command=command)
    return p


def _one(group: Any, name: str, help: str, command: str) -> Parser:
    p = _command(group, name, help, command)
    _add_data(p, server=True)
    _add_json(p)
    return p


def _add_holder(parser: Parser) -> None:
    parser.add_argument("user", type=options.text, metavar="NAME", nargs="?", help="a user")
    parser.add_argument(
        "--role",
        type=options.whole(0, 2**62),
        metavar="ID",
        help="a role instead of a user; role list shows the ids",
    )


def _add_of(parser: Parser) -> None:
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument(
        "--experiment",
        type=options.text,
        metavar="NAME",
        help="name, or a prefix such as '/team/*'",
    )
    of.add_argument(
        "--model", type=options.text, metavar="NAME", help="name, or a prefix such as 'team-*'"
    )


def _add_reason(parser: Parser) -> None:
    parser.add_argument(
        "--reason", type=options.text, metavar="TEXT", help="the reason, for the audit trail"
    )


def _registry(add: Callable[..., Parser]) -> None:
    for group, (help, examples) in verbs.GROUPS.items():
        commands = add(group, help, examples, None).add_subparsers(
            dest="what", metavar="COMMAND", required=True
        )
        verbs.add_verbs(group, commands, _one)
        if group == "role":
            _one(commands, "list", "list all roles", "access:role_list")


def _import(add: Callable[..., Parser]) -> None:
    p = add(
        "import",
        "import from another tracker",
        "  modeltrail import mlflow sqlite:///mlflow.db --dry-run\n"
        "  modeltrail import mlflow ./mlruns --into ./modeltrail-data",
        None,
    )
    trackers = p.add_subparsers(dest="what", metavar="TRACKER", required=True)
    mlflow = _command(
        trackers,
        "mlflow",
        "import from an MLflow database, folder or server",
        "import_:import_mlflow",
        description="Import what is missing here from an MLflow database, folder or server, then\n"
        "compare everything. You can stop the import and start it again at any time.\n"
        "The exit code is 1 if anything differs.",
        epilog="environment:\n"
        "  MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN\n"
        "                     credentials, if SOURCE is a server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option(
        mlflow,
        "source",
        options.text,
        "tracking database (sqlite:///mlflow.db, a file, postgresql://…, mysql://…), "
        "mlruns folder, or running server (http://…)",
        metavar="SOURCE",
    )
    option(
        mlflow,
        "--into",
        options.folder,
        "data folder to import into (default: MODELTRAIL_URL or ./modeltrail-data)",
        dest="data",
    )
    option(mlflow, "--log", options.log, "URL of the log, if it is not in the data folder")
    option(mlflow, "--server", options.server, "import into this running server")
    option(
        mlflow,
        "--experiment",
        options.text,
        "only this experiment, without registered models (repeatable)",
        metavar="NAME",
        repeat=True,
    )
    option(
        mlflow,
        "--artifacts",
        options.artifacts,
        "where to store artifacts, as in: modeltrail serve --artifacts",
    )
    option(
        mlflow,
        "--artifacts-from",
        options.artifacts,
        "folder or object store of the source's mlflow-artifacts: files (default: "
        "./mlartifacts next to the database)",
    )
    flag(
        mlflow,
        "--copy-artifacts",
        "also copy artifacts from object stores, instead of referring to them",
    )
    flag(mlflow, "--dry-run", "only count; write nothing")
    _add_json(mlflow)


def _webhooks(add: Callable[..., Parser]) -> None:
    p = add(
        "webhooks",
        "show the deliveries of webhooks, and repeat them",
        "  modeltrail webhooks list\n"
        "  modeltrail webhooks dead\n"
        "  modeltrail webhooks replay --from 2026-03-01T12:00:00Z",
        None,
    )
    groups = p.add_subparsers(dest="what", metavar="COMMAND", required=True)

    def one(name: str, function: str, help: str) -> Parser:
        p = _command(groups, name, help, f"webhooks:{function}")
        _add_data(p, server=True)
        return p

    verbs.add_verbs("webhooks", groups, _one)

    _add_json(one("list", "list_", "list webhooks, with their pending and dead deliveries"))
    for name, help in (
        ("deliveries", "list deliveries, newest first"),
        ("dead", "list dead letters: deliveries that were given up"),
    ):
        listed = one(name, name, help)
        option(listed, "--webhook", options.text, "only this webhook", metavar="ID|NAME")
        if name == "deliveries":
            listed.add_argument("--state", choices=["pending", "delivered", "dead"])
        option(listed, "--limit", options.whole(1, 10_000), "default: 100", default=100)
        _add_json(listed)
    retry = one("retry", "retry", "retry dead letters")
    option(retry, "--webhook", options.text, "only this webhook", metavar="ID|NAME")
    option(retry, "--delivery", options.text, "only this delivery", metavar="ID")
    replay = one("replay", "replay", "deliver again, from a time or position on")
    option(
        replay,
        "--from",
        options.moment,
        "time or position of the first event",
        dest="start",
        required=True,
    )
    option(replay, "--webhook", options.text, "only this webhook", metavar="ID|NAME")


def build_parser() -> Parser:
    """Return the parser with all commands."""
    parser = _Overview(
        prog="modeltrail",
        description="an experiment tracker and model registry on an append-only log.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="store_true", dest="print_version", help="print the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)

    def add(name: str, help: str, examples: str, command: str | None) -> Parser:
        layout = argparse.RawDescriptionHelpFormatter
        more = {"epilog": f"examples:\n{examples}", "formatter_class": layout}
        return _command(commands, name, help, command, **more)

    reading = (_open, _runs, _sql, _replay, _audit)
    for part in (_serve, *reading, _operate, _backup, _access, _registry, _import, _webhooks):
        part(add)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Print errors of the user without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack some characters
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.print_version:
        from importlib.metadata import version

        sys.stdout.write(f"modeltrail {version('modeltrail')}\n")
        return 0
    if getattr(args, "command", None) is None:
        parser.print_help()
        return 2
    try:
        options.check_environment()
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    module, _, function = args.command.partition(":")
    from modeltrail.producers.settings import new_problems

    for problem in new_problems():
        sys.stderr.write(f"modeltrail: warning: {problem}\n")
    try:
        commands = importlib.import_module(f"modeltrail.api.commands.{module}")
        return int(getattr(commands, function)(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has ended, as in `| head`. That is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        sys.stderr.write(f"modeltrail: {message}\n")
        return 1


def program() -> int:
    """Run the command of this process: the ``modeltrail`` that is installed."""
    leave_out_pandas()
    return main()


def _message(error: Exception) -> str | None:
    """Return the message for the user, or None if the error is a bug in this program."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("modeltrail"):
        return f"{error.name} is not installed; install it with: pip install 'modeltrail[server]'"
    if isinstance(error, OSError):
        return f"{error.filename or ''}{': ' if error.filename else ''}{error.strerror or error}"
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    expected = any(
        f"{base.__module__}.{base.__qualname__}" in _EXPECTED for base in type(error).__mro__
    )
    return (str(error) or name) if expected else None


# By name, because importing the classes takes too long.
_EXPECTED = frozenset(
    {
        "modeltrail.api.errors.ApiError",
        "modeltrail.api.errors.ClientError",
        "modeltrail.consumers.checkpoints.AuditError",
        "modeltrail.consumers.fold.FoldBehind",
        "modeltrail.consumers.store.StoreError",
        "modeltrail.consumers.webhooks.secrets.WebhookKeyError",
        "modeltrail.eventlog.base.LogError",
    }
)


if __name__ == "__main__":
    sys.exit(program())
