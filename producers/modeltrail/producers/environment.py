"""Describe the code of a run and the machine that it runs on.

The producers' own threads collect this; nothing here runs in a training thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any

from modeltrail.producers.forks import fork_gate

_GIT_TIMEOUT_S = 2.0


def user_name() -> str:
    """Return the user's name, from the environment or else the password database."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if os.environ.get(variable):
            return os.environ[variable]
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    return str(os.getuid())


def entry_point() -> str | None:
    """Return the script, module or notebook that was started."""
    main: Any = sys.modules.get("__main__")
    spec: Any = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return f"-m {spec.name.removesuffix('.__main__')}"
    path: str | None = getattr(main, "__file__", None)
    if path:
        return os.path.abspath(path)
    notebook = os.environ.get("JPY_SESSION_NAME") or os.environ.get("VSCODE_NOTEBOOK")
    return notebook or (sys.argv[0] if sys.argv and sys.argv[0] else None)


def packages() -> dict[str, str]:
    """Return the installed distributions that can be imported: name to version.

    They are read from the names of the ``.dist-info`` folders, which the specification "Recording
    installed projects" fixes. This takes two milliseconds; parsing all METADATA files takes
    hundreds.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                stem, dot, kind = entry.name.rpartition(".")
                name, dash, version = stem.partition("-")
                if dot and kind in ("dist-info", "egg-info") and dash and name:
                    found.setdefault(name.replace("_", "-").lower(), version.partition("-py")[0])
    return found


def describe() -> dict[str, Any]:
    """Return everything in ``RunStarted.source`` except Git, in a few milliseconds."""
    system = os.uname()
    return {
        "entry_point": entry_point(),
        "host": system.nodename,
        "process_id": os.getpid(),
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "platform": f"{system.sysname} {system.release} {system.machine}",
        "packages": packages(),
    }


def without_credentials(remote: str) -> str:
    """Return the URL of a Git remote without user name, password or token."""
    scheme, sep, rest = remote.partition("://")
    if not sep:  # scp-like, such as git@host:path; the user is part of the address and not secret
        return remote
    host, slash, path = rest.partition("/")
    return scheme + sep + host.rpartition("@")[2] + slash + path.partition("?")[0]


class Git(threading.Thread):
    """Asks Git about a folder in a separate thread, because it may take seconds."""

    def __init__(self, folder: str) -> None:
        super().__init__(name="modeltrail-git", daemon=True)
        self._folder = folder
        self._deadline = time.monotonic() + _GIT_TIMEOUT_S
        self._facts: dict[str, Any] = {}
        self._finished = False
        self.start()

    @property
    def ready(self) -> bool:
        """Return whether all facts are known or the time is up."""
        return self._finished or time.monotonic() > self._deadline

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts known so far: the ``git_`` fields of ``RunStarted.source``."""
        return dict(self._facts)

    def run(self) -> None:
        """Ask Git. A question that fails leaves its field out."""
        try:
            head = self._ask("rev-parse", "HEAD", "--abbrev-ref", "HEAD")
            if head is None:
                return
            commit, _, branch = head.partition("\n")
            self._facts["git_commit"] = commit
            self._facts["git_branch"] = None if branch == "HEAD" else branch
            remote = self._ask("config", "--get", "remote.origin.url")
            self._facts["git_remote"] = without_credentials(remote) if remote else None
            changed = self._ask("status", "--porcelain", "--untracked-files=no")
            self._facts["git_dirty"] = None if changed is None else bool(changed)
        finally:
            self._finished = True

    def _ask(self, *command: str) -> str | None:
        with fork_gate:
            import subprocess

        # Git must neither prompt nor take locks that could disturb another commit.
        env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
        try:
            done = subprocess.run(
                ["git", "-C", self._folder, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=max(0.01, self._deadline - time.monotonic()),
                env=env,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        if done.returncode:
            return None
        return done.stdout.decode("utf-8", "backslashreplace").strip()


def code_folder() -> str:
    """Return the folder whose Git repository contains the code of the run."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(path)) if path else os.getcwd()
