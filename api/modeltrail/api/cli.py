"""The command `modeltrail`. Help must come at once, so everything heavy is imported in commands."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from modeltrail.api.commands import options
from modeltrail.api.commands.options import Parser

_GROUPS = {
    "look": ("runs", "run", "compare", "sql", "audit", "status", "doctor"),
    "run a server": ("serve", "user", "token", "permission", "webhooks"),
    "move data": ("artifacts", "export", "import", "sync"),
    "look after the data": ("backup", "restore", "replay", "rebuild"),
}

_EPILOG = """\
examples:
  modeltrail serve                                    start on the folder ./modeltrail-data
  modeltrail runs --filter "metrics.loss < 0.1"       the runs, of the server or the folder
  modeltrail sql "FROM runs LIMIT 10"                 the same and everything else, by SQL
  modeltrail audit log --model digits                 who did what to it, when and why

environment:
  MODELTRAIL_URL     folder or server to use (default ./modeltrail-data)
  MODELTRAIL_TOKEN   token for a server that asks for one

exit codes: 0 all is well, 1 it failed or something was found, 2 wrong usage
"""


class _Overview(Parser):
    """The parser of all commands; its help shows them by what they are for."""

    def format_help(self) -> str:
        """The overview."""
        styled = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        bold, plain = ("\x1b[1m", "\x1b[0m") if styled else ("", "")
        (commands,) = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        helps = {action.dest: action.help for action in commands._choices_actions}
        grouped = {name for names in _GROUPS.values() for name in names}
        groups = {**_GROUPS, "more": tuple(name for name in helps if name not in grouped)}
        lines = [
            f"{bold}modeltrail{plain}: {self.description}",
            "",
            "  modeltrail COMMAND …         do something",
            "  modeltrail COMMAND --help    what it takes, with examples",
        ]
        for title, names in groups.items():
            present = [name for name in names if name in helps]
            if present:
                lines += ["", f"{bold}{title}{plain}"]
                lines += [f"  {name:<12} {helps[name]}" for name in present]
        return "\n".join([*lines, "", self.epilog or ""])


def _add_data(parser: Parser, server: bool = False) -> None:
    parser.add_argument(
        "--data",
        type=options.folder,
        metavar="FOLDER",
        help="data folder (default: MODELTRAIL_URL, ./modeltrail-data)",
    )
    parser.add_argument(
        "--log", type=options.log, metavar="URL", help="the log, if it is not in the data folder"
    )
    if server:
        parser.add_argument(
            "--server",
            type=options.server,
            metavar="URL",
            help="ask this server, as in http://host:5000",
        )


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON, for scripts")


def _serve(add: Callable[..., Parser]) -> None:
    p = add(
        "serve",
        "run the server: fold and API in one process",
        "  modeltrail serve --data ./modeltrail-data --port 5000\n"
        "  modeltrail serve --log kafka://broker:9092/modeltrail --data /var/lib/modeltrail\n"
        "  modeltrail serve --artifacts s3://bucket/prefix      (AWS_* variables)\n"
        "  modeltrail serve --host 0.0.0.0 --auth --allow-host trail.example.org",
        "serve:serve",
    )
    _add_data(p)
    p.add_argument(
        "--host", type=options.text, default="127.0.0.1", help="address to listen at (%(default)s)"
    )
    p.add_argument(
        "--port", type=options.port, default=5000, help="port (%(default)s); 0: any free one"
    )
    p.add_argument(
        "--auth", action="store_true", help="ask everybody for a password or token; see user create"
    )
    p.add_argument(
        "--default-permission",
        choices=["none", "read", "edit", "manage"],
        default="read",
        help="what users may do where no permission says anything (%(default)s)",
    )
    p.add_argument(
        "--allow-host",
        type=options.text,
        metavar="NAME",
        action="append",
        default=[],
        help="answer to this name too (repeat it; * for any)",
    )
    p.add_argument(
        "--trusted-proxy",
        metavar="ADDRESS",
        type=options.network,
        action="append",
        default=[],
        help="believe what this proxy, or one of this network (10.0.0.0/8), says in "
        "X-Forwarded-For and X-Forwarded-Proto (repeat it)",
    )
    p.add_argument(
        "--memory-limit",
        type=options.memory,
        metavar="SIZE",
        help='for DuckDB and SQL, as in "4GB" (half of all)',
    )
    p.add_argument(
        "--threads",
        type=options.whole(1, 1024),
        metavar="N",
        help="DuckDB's (one for each core)",
    )
    p.add_argument(
        "--artifacts",
        type=options.artifacts,
        metavar="URL",
        help="where artifacts are kept: a folder, s3://, gs://, az:// or abfss:// "
        "(default: MODELTRAIL_ARTIFACTS, or the data folder)",
    )
    p.add_argument(
        "--presigned",
        action="store_true",
        help="let MLflow clients send and fetch large artifacts straight from an object store, by "
        "URLs that hold for hours",
    )
    p.add_argument(
        "--artifact-limit",
        type=options.whole(1, 2**62),
        metavar="BYTES",
        default=64 * 1024**3,
        help="largest artifact (%(default)s)",
    )
    p.add_argument(
        "--heart-timeout",
        type=options.seconds(0.1, 1e9),
        metavar="SECONDS",
        default=180.0,
        help="end runs that are silent for longer (%(default)s)",
    )
    p.add_argument(
        "--webhooks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="deliver webhooks; of several servers on one log, one does",
    )
    p.add_argument(
        "--allow-private-webhooks",
        action="store_true",
        help="let webhooks go to private addresses, and to those over http",
    )
    p.add_argument(
        "--webhook-tries",
        type=options.whole(1, 1000),
        metavar="N",
        default=15,
        help="attempts before a delivery is a dead letter (%(default)s)",
    )
    p.add_argument(
        "--accept-log",
        action="store_true",
        help="go on with a log that ends before what was folded or signed, or differs from it, as "
        "after an older backup was restored; the old tables and checkpoints are kept aside",
    )
    p.add_argument("--access-log", action="store_true", help="a line for each request")


def _sql(add: Callable[..., Parser]) -> None:
    p = add(
        "sql",
        "run a query, on the server or straight on the folder",
        '  modeltrail sql "SELECT status, count(*) FROM runs GROUP BY 1"\n'
        "  modeltrail sql --csv < question.sql\n"
        '  modeltrail sql "FROM metrics WHERE run_id = ?" --param 0af7… -o points.parquet\n'
        '  modeltrail sql "SHOW TABLES"',
        "query:sql",
    )
    _add_data(p, server=True)
    p.add_argument("statement", nargs="?", help="one query; read from standard input if left out")
    p.add_argument("--param", action="append", default=[], metavar="VALUE", help="value for a ?")
    p.add_argument(
        "--limit",
        type=options.whole(0, 100_000_000),
        metavar="N",
        help="most rows (1000 as a table, else all)",
    )
    p.add_argument(
        "--timeout",
        type=options.seconds(0.001, 600),
        default=60.0,
        metavar="SECONDS",
        help="(%(default)s)",
    )
    p.add_argument(
        "--width",
        type=options.whole(20, 100_000),
        metavar="N",
        help="draw the table so wide (default: the terminal's; else nothing is cut)",
    )
    how = p.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="JSON: columns, types, rows")
    how.add_argument("--csv", action="store_true", help="CSV")
    how.add_argument(
        "-o",
        "--output",
        type=options.result_file,
        metavar="FILE",
        help="into a file: .parquet, .csv, .json or .arrow",
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
    p.add_argument(
        "--filter", type=options.text, metavar="TEXT", help="condition, as in MLflow's search_runs"
    )
    p.add_argument(
        "--experiment",
        type=options.text,
        metavar="NAME",
        action="append",
        default=[],
        help="only of this experiment, by name or id (repeat it)",
    )
    p.add_argument(
        "--order-by",
        type=options.text,
        metavar="TEXT",
        action="append",
        default=[],
        help='as in "metrics.loss ASC" (repeat it)',
    )
    p.add_argument(
        "--columns",
        type=options.columns,
        metavar="NAMES",
        help="as in metrics.loss,params.lr,tags.team (default: some metrics, params that differ)",
    )
    p.add_argument(
        "--limit",
        type=options.whole(1, 1_000_000),
        default=30,
        metavar="N",
        help="most runs (%(default)s)",
    )
    p.add_argument("--deleted", action="store_true", help="the deleted ones instead")
    _add_formats(p)
    p = add(
        "run",
        "show one run: status, metrics, params, tags, files",
        "  modeltrail run 0af7651916cd\n  modeltrail run trial-7 --json",
        "runs:run",
    )
    _add_data(p, server=True)
    p.add_argument(
        "run", type=options.text, metavar="RUN", help="id, the beginning of one, or a name"
    )
    _add_json(p)
    p = add(
        "compare",
        "put runs side by side: params that differ, metrics",
        "  modeltrail compare trial-7 trial-9",
        "runs:compare",
    )
    _add_data(p, server=True)
    p.add_argument(
        "runs",
        type=options.text,
        metavar="RUN",
        nargs="+",
        help="two or more; each an id, the beginning of one, or a name",
    )
    p.add_argument("--all", action="store_true", help="also what is the same in all of them")
    _add_formats(p)
    artifacts = add(
        "artifacts",
        "fetch the files of runs",
        "  modeltrail artifacts get trial-7 --to ./trial-7\n"
        "  modeltrail artifacts get 0af7651916cd model --to .",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = artifacts.add_parser(
        "get",
        help="download a run's files",
        description="Download a run's files, or some. Each appears whole or not at all; those "
        "that are there already are not fetched again.",
    )
    p.set_defaults(command="runs:artifacts_get")
    _add_data(p, server=True)
    p.add_argument(
        "run", type=options.text, metavar="RUN", help="id, the beginning of one, or a name"
    )
    p.add_argument(
        "path", type=options.text, metavar="PATH", nargs="?", help="a file or folder (default: all)"
    )
    p.add_argument(
        "--to",
        type=options.folder,
        default=".",
        metavar="FOLDER",
        help="where they go (default: the current folder)",
    )
    _add_json(p)


def _add_formats(parser: Parser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="JSON, for scripts")
    how.add_argument("--csv", action="store_true", help="CSV")


def _replay(add: Callable[..., Parser]) -> None:
    p = add(
        "replay",
        "build a private database of an earlier moment",
        "  modeltrail replay --until 2026-03-01T12:00:00Z --into march.duckdb\n"
        "  modeltrail replay --until registry:0:17 --into before.duckdb",
        "folding:replay",
    )
    _add_data(p)
    p.add_argument(
        "--until", type=options.moment, metavar="TIME|POSITION", help="the moment (default: now)"
    )
    p.add_argument(
        "--into", type=options.text, metavar="FILE", required=True, help="new DuckDB file"
    )
    _add_json(p)
    p = add(
        "rebuild",
        "build the projections anew from the log",
        "  modeltrail rebuild --data ./modeltrail-data      (stop the server first)",
        "folding:rebuild",
    )
    _add_data(p)
    _add_json(p)


def _audit(add: Callable[..., Parser]) -> None:
    p = add(
        "audit",
        "read the audit trail, or check it",
        "  modeltrail audit log --model digits --alias champion\n"
        "  modeltrail audit verify\n"
        "  modeltrail audit verify --artifacts --model digits",
        None,
    )
    groups = p.add_subparsers(dest="what", metavar="COMMAND", required=True)
    log = groups.add_parser(
        "log",
        help="who did what, when, why, and what was refused",
        description="Requests to the registry, oldest first.",
    )
    log.set_defaults(command="trail:log")
    _add_data(log, server=True)
    for name, type, help in (
        ("model", options.text, "registered model"),
        ("alias", options.text, "alias"),
        ("experiment", options.text, "experiment, by name or id"),
        ("actor", options.text, "who asked"),
        ("type", options.request_type, "event type, as in SetRegisteredModelAlias"),
        ("since", options.past, "appended at or after this time"),
        ("until", options.past, "appended before this time"),
    ):
        log.add_argument(f"--{name}", type=type, metavar=name.upper(), help=help)
    log.add_argument("--version", type=options.whole(1, 2**53), metavar="N", help="version number")
    log.add_argument("--refused", action="store_true", help="only what was refused")
    log.add_argument(
        "--limit",
        type=options.whole(1, 10_000_000),
        default=1000,
        metavar="N",
        help="newest (%(default)s)",
    )
    _add_json(log)
    verify = groups.add_parser(
        "verify",
        help="check the log against what was folded and signed",
        description="Compute the hash chain of every partition from the raw log, and compare it "
        "with what was folded (the tables as they are, or those of the server that runs on the "
        "folder) and with the signed checkpoints. Nothing is written. Exit code 1 if anything "
        "differs.",
    )
    verify.set_defaults(command="trail:verify")
    _add_data(verify)
    verify.add_argument(
        "--checkpoints",
        type=options.text,
        metavar="FILE",
        help="signed checkpoints to compare with",
    )
    verify.add_argument(
        "--trust",
        type=options.public_key,
        metavar="HEX",
        action="append",
        default=[],
        help="public key whose signatures count (repeat it; default: any that the file names)",
    )
    verify.add_argument(
        "--artifacts",
        metavar="URL",
        nargs="?",
        const="",
        help="also read every recorded file and compare its size and SHA-256; from where the "
        "server keeps them, or from this URL",
    )
    verify.add_argument("--run", type=options.text, metavar="ID", help="only files of this run")
    verify.add_argument(
        "--model", type=options.text, metavar="NAME", help="only files of this registered model"
    )
    _add_json(verify)


def _operate(add: Callable[..., Parser]) -> None:
    p = add(
        "sync",
        "deliver what training jobs left in their outboxes",
        "  modeltrail sync\n  modeltrail sync --outbox /scratch/outbox --to http://host:5000",
        "operation:sync",
    )
    p.add_argument(
        "--outbox",
        type=options.folder,
        metavar="FOLDER",
        help="(default: MODELTRAIL_OUTBOX, or the user's)",
    )
    p.add_argument(
        "--to",
        type=options.target,
        metavar="URL",
        help="deliver to this target instead of each one's own",
    )
    p.add_argument(
        "--timeout",
        type=options.seconds(0, 1e9),
        metavar="SECONDS",
        help="end after this time",
    )
    _add_json(p)
    p = add(
        "status",
        "how the server or the folder is doing",
        "  modeltrail status\n  modeltrail status --server http://host:5000 --json",
        "operation:status",
    )
    _add_data(p, server=True)
    _add_json(p)
    p = add(
        "doctor",
        "find what is wrong, and how to repair it",
        "  modeltrail doctor --data ./modeltrail-data\n"
        "  modeltrail doctor --log kafka://broker:9092/modeltrail",
        "doctor:doctor",
    )
    _add_data(p, server=True)
    p.add_argument(
        "--repair", action="store_true", help="take the data folder out of the reach of others"
    )
    _add_json(p)
    p = add(
        "export",
        "runs, params, tags and metrics as files",
        "  modeltrail export --into ./out\n"
        "  modeltrail export --into ./out --format csv --experiment /vision/digits",
        "query:export",
    )
    _add_data(p, server=True)
    p.add_argument(
        "--into",
        type=options.folder,
        metavar="FOLDER",
        required=True,
        help="folder, made if missing",
    )
    p.add_argument("--format", choices=["parquet", "csv"], default="parquet", help="(%(default)s)")
    p.add_argument(
        "--experiment", type=options.text, metavar="NAME", help="only runs of this experiment"
    )
    _add_json(p)


def _backup(add: Callable[..., Parser]) -> None:
    p = add(
        "backup",
        "copy a data folder, beside a running server too, and verify the copy",
        "  modeltrail backup /backups/monday\n"
        "  modeltrail backup /backups/monday.tar.gz --keys --artifacts",
        "backup:backup",
    )
    p.add_argument(
        "target", metavar="TARGET", help="a folder to make, or a file: .tar, .tar.gz or .tgz"
    )
    _add_data(p)
    p.add_argument("--keys", action="store_true", help="the keys too; keep such a backup secret")
    p.add_argument("--artifacts", action="store_true", help="the files of the artifacts too")
    p.add_argument("--replace", action="store_true", help="replace an earlier backup")
    _add_json(p)
    p = add(
        "restore",
        "make a data folder of a backup, and verify it",
        "  modeltrail restore /backups/monday.tar.gz --data ./restored\n"
        "  modeltrail serve --data ./restored",
        "backup:restore",
    )
    p.add_argument("source", metavar="SOURCE", help="a backup: its folder or file")
    p.add_argument(
        "--data", metavar="FOLDER", required=True, help="data folder to make; missing or empty"
    )
    _add_json(p)


def _access(add: Callable[..., Parser]) -> None:
    user = add(
        "user",
        "who can sign in, on a server with --auth",
        "  modeltrail user create ada --admin\n"
        "  modeltrail user create ci --no-password\n"
        "  modeltrail user list --json",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(user, "create", "user_create", "create a user")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument("--admin", action="store_true", help="who may do everything")
    p.add_argument("--no-password", action="store_true", help="who signs in with tokens only")
    _add_reason(p)
    _one(user, "list", "user_list", "all users")
    p = _one(user, "password", "user_password", "set a user's password, and end their tokens")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument("--keep-tokens", action="store_true", help="let the user's tokens live on")
    _add_reason(p)
    p = _one(user, "delete", "user_delete", "delete a user, with tokens and permissions")
    p.add_argument("user", type=options.text, metavar="NAME")
    _add_reason(p)
    token = add(
        "token",
        "tokens, which sign in as a user without a password",
        "  modeltrail token create ci --expires 90d --description 'nightly training'\n"
        "  modeltrail token revoke 17",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(token, "create", "token_create", "make a token, and print it this once")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument(
        "--expires",
        type=options.expiry,
        metavar="TIME",
        help="90d, 12h, or 2027-01-31 (default: never)",
    )
    p.add_argument("--description", type=options.text, metavar="TEXT", help="what it is for")
    _add_reason(p)
    p = _one(token, "list", "token_list", "all tokens, but not the secrets")
    p.add_argument("--user", type=options.text, metavar="NAME", help="only this user's")
    p = _one(token, "revoke", "token_revoke", "end a token")
    p.add_argument("token_id", metavar="ID", type=options.whole(0, 2**53))
    _add_reason(p)
    permission = add(
        "permission",
        "who may do what with experiments and registered models",
        "  modeltrail permission grant ada EDIT --experiment '/search-team/*'\n"
        "  modeltrail permission grant ci READ --model digits",
        None,
    ).add_subparsers(dest="what", metavar="COMMAND", required=True)
    p = _one(permission, "grant", "permission_grant", "permit something, or deny it")
    p.add_argument("user", type=options.text, metavar="NAME")
    p.add_argument(
        "permission",
        metavar="PERMISSION",
        type=str.upper,
        choices=["READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS"],
        help="READ, USE, EDIT, MANAGE or NO_PERMISSIONS",
    )
    _add_of(p)
    _add_reason(p)
    p = _one(permission, "revoke", "permission_revoke", "take back what was granted")
    p.add_argument("user", type=options.text, metavar="NAME")
    _add_of(p)
    _add_reason(p)
    p = _one(permission, "list", "permission_list", "what is granted")
    p.add_argument("--user", type=options.text, metavar="NAME", help="only to this user")


def _one(group: Any, name: str, function: str, help: str) -> Parser:
    p: Parser = group.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    p.set_defaults(command=f"access:{function}")
    _add_data(p, server=True)
    _add_json(p)
    return p


def _add_of(parser: Parser) -> None:
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument(
        "--experiment",
        type=options.text,
        metavar="NAME",
        help="a name, or a prefix as in '/team/*'",
    )
    of.add_argument(
        "--model", type=options.text, metavar="NAME", help="a name, or a prefix as in 'team-*'"
    )


def _add_reason(parser: Parser) -> None:
    parser.add_argument(
        "--reason", type=options.text, metavar="TEXT", help="why; it stays in the trail"
    )


def _import(add: Callable[..., Parser]) -> None:
    p = add(
        "import",
        "bring in what another tracker has",
        "  modeltrail import mlflow sqlite:///mlflow.db --dry-run\n"
        "  modeltrail import mlflow ./mlruns --into ./modeltrail-data",
        None,
    )
    trackers = p.add_subparsers(dest="what", metavar="TRACKER", required=True)
    mlflow = trackers.add_parser(
        "mlflow",
        help="experiments, runs, histories, models and files of an MLflow store",
        description="Append what an MLflow store has and this trail has not; then compare. "
        "It can be stopped and started again at any time. Exit code 1 if anything differs.",
        epilog="environment:\n"
        "  MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN\n"
        "                     credentials for a SOURCE that is a server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mlflow.set_defaults(command="import_:import_mlflow")
    mlflow.add_argument(
        "source",
        type=options.text,
        metavar="SOURCE",
        help="tracking database (sqlite:///mlflow.db, a file, postgresql://…, mysql://…), "
        "mlruns folder, or running server (http://…)",
    )
    mlflow.add_argument(
        "--into",
        dest="data",
        type=options.folder,
        metavar="FOLDER",
        help="data folder (default: MODELTRAIL_URL)",
    )
    mlflow.add_argument(
        "--log", type=options.log, metavar="URL", help="the log, if it is not in the data folder"
    )
    mlflow.add_argument(
        "--server", type=options.server, metavar="URL", help="import into this running server"
    )
    mlflow.add_argument(
        "--experiment",
        type=options.text,
        metavar="NAME",
        action="append",
        default=[],
        help="only this experiment, without registered models (repeat it)",
    )
    mlflow.add_argument(
        "--artifacts",
        type=options.artifacts,
        metavar="URL",
        help="where this trail keeps artifacts; see serve",
    )
    mlflow.add_argument(
        "--artifacts-from",
        type=options.artifacts,
        metavar="URL",
        help="folder or object store behind the source's mlflow-artifacts: (./mlartifacts beside "
        "the database)",
    )
    mlflow.add_argument(
        "--copy-artifacts",
        action="store_true",
        help="copy artifacts of object stores too, instead of pointing at them",
    )
    mlflow.add_argument("--dry-run", action="store_true", help="count, and write nothing")
    _add_json(mlflow)


def _webhooks(add: Callable[..., Parser]) -> None:
    p = add(
        "webhooks",
        "how the deliveries of webhooks are doing, and deliver again",
        "  modeltrail webhooks list\n"
        "  modeltrail webhooks dead\n"
        "  modeltrail webhooks replay --from 2026-03-01T12:00:00Z",
        None,
    )
    groups = p.add_subparsers(dest="what", metavar="COMMAND", required=True)

    def one(name: str, function: str, help: str) -> Parser:
        parser = groups.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        parser.set_defaults(command=f"webhooks:{function}")
        _add_data(parser, server=True)
        return parser

    _add_json(one("list", "list_", "webhooks, with what is pending and dead"))
    for name, help in (("deliveries", "deliveries, newest first"), ("dead", "dead letters")):
        listed = one(name, name, help)
        listed.add_argument(
            "--webhook", type=options.text, metavar="ID|NAME", help="only of this one"
        )
        if name == "deliveries":
            listed.add_argument("--state", choices=["pending", "delivered", "dead"])
        listed.add_argument(
            "--limit", type=options.whole(1, 10_000), default=100, metavar="N", help="(100)"
        )
        _add_json(listed)
    retry = one("retry", "retry", "try dead letters again")
    retry.add_argument("--webhook", type=options.text, metavar="ID|NAME", help="only of this one")
    retry.add_argument("--delivery", type=options.text, metavar="ID", help="only this one")
    replay = one("replay", "replay", "deliver everything again from a position or time on")
    replay.add_argument(
        "--from",
        dest="start",
        type=options.moment,
        metavar="TIME|POSITION",
        required=True,
        help="the first",
    )
    replay.add_argument("--webhook", type=options.text, metavar="ID|NAME", help="only to this one")


def build_parser() -> Parser:
    """The parser, with every command in it."""
    parser = _Overview(
        prog="modeltrail",
        description="an experiment tracker and model registry in which the log is the system.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="store_true", dest="print_version", help="print the version and end"
    )
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)

    def add(name: str, help: str, examples: str, command: str | None) -> Parser:
        added = commands.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=command)
        return added

    reading = (_runs, _sql, _replay, _audit)
    for part in (_serve, *reading, _operate, _backup, _access, _import, _webhooks):
        part(add)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Users' errors are a message, not a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know each character
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
        # The reader of our output has gone, as in `| head`; nothing is wrong with that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        sys.stderr.write(f"modeltrail: {message}\n")
        return 1


def _message(error: Exception) -> str | None:
    """What to tell the user; None for what is a mistake of the program."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("modeltrail"):
        return f"{error.name} is not installed; install it with: pip install 'modeltrail[server]'"
    if isinstance(error, OSError):
        return f"{error.filename or ''}{': ' if error.filename else ''}{error.strerror or error}"
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    expected = any(
        f"{base.__module__}.{base.__qualname__}" in _EXPECTED for base in type(error).__mro__
    )
    return (str(error) or name) if expected else None


# By name, since importing them is what takes the time.
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
    sys.exit(main())
