"""A PostgreSQL server of our own in a temporary folder: for the demo, for tests, and for breaking it on purpose."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

import psutil
from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import ForkedError, SetupError
from pgflow_starter.postgres.embedded.binaries import bundled, usable
from pgflow_starter.postgres.embedded.folders_and_ports import give_folder, new_folder, plain_folder, take_port
from pgflow_starter.postgres.embedded.guard import Guard
from pgflow_starter.postgres.embedded.guard_program import LOG
from pgflow_starter.postgres.embedded.identity import Identity, server_identity
from pgflow_starter.postgres.embedded.postmaster import await_ready, ended, is_dead, kill_tree, tail

STOP_TIMEOUT = 30.0
INITDB_TIMEOUT = 120.0

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_PASSWORD = "password"


class EmbeddedPostgres:
    """A PostgreSQL server from PyPI, superuser `postgres`, on a private socket, where it asks for no password.

    With `tcp=True` it listens on 127.0.0.1 instead, and `conninfo` has a password: every user of this machine can reach
    it there. Its data lives in a new temporary folder and outlives `stop` and `kill`; `close` removes it, as does the
    end of the process, be it a SIGKILL (unless a forked child outlives it: that one holds the pipe which tells).
    `settings` are server settings by name and win over ours. `parent` is where the folder is made: where it cannot be,
    and without it, in $TMPDIR.

    For root the server runs as `nobody`, who owns its data and its socket and nothing that root touches afterwards.

    Every method may be called from any thread; they wait for each other. A forked child can use `conninfo` only.
    """

    def __init__(
        self,
        *,
        version: int = 18,
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
        parent: Path | None = None,
    ) -> None:
        self._version = version
        self._tcp = tcp
        self._settings = dict(settings or {})
        self._parent = parent
        self._identity = Identity()
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._home: Path | None = None
        self._plain = Path()
        self._sockets = Path()
        self._programs = Path()
        self._process: psutil.Process | None = None
        self._guard: Guard | None = None
        self._port = 5432
        self._port_keeper: socket.socket | None = None
        self._password = secrets.token_urlsafe(24) if tcp else None
        self._has_data = False
        self._closed = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedPostgres {self._version} {'tcp' if self._tcp else 'socket'} in {self._home}>"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None while it does not run. Never waits."""
        process = self._process
        if process is None or os.getpid() != self._owner or is_dead(process):
            return None
        return int(process.pid)

    @property
    def running(self) -> bool:
        """Whether the postmaster lives. Never waits."""
        return self.pid is not None

    def conninfo(self, dbname: str = "postgres") -> str:
        """The libpq connection string of a database here, password included, the same over all starts.

        Raises SetupError.
        """
        if self._home is None:
            with self._lock:
                self._prepare()
        host = "127.0.0.1" if self._tcp else str(self._sockets)
        return make_conninfo(host=host, port=self._port, user="postgres", password=self._password, dbname=dbname)

    def start(self) -> None:
        """Have the server accept connections, recovering from a crash first; nothing to do where it runs.

        Takes 3 minutes at most, usually a second. Raises SetupError with the end of the log, MissingExtraError.
        """
        with self._lock:
            self._check_owner()
            if self.running:
                return
            if self._closed:
                raise SetupError("this embedded PostgreSQL was closed: make a new one")
            home = self._prepare()
            if not self._has_data:
                self._initdb(home)
            self._launch(home)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast", timeout: float = STOP_TIMEOUT) -> None:
        """Stop the server; nothing to do where it does not run. The next, harder mode follows after each `timeout`.

        Takes `timeout` seconds for each mode left at most. Raises ValueError for an unknown mode.
        """
        modes = list(_SIGNALS)
        if mode not in modes:
            raise ValueError(f"mode is one of {', '.join(modes)}, not {mode!r}")
        with self._lock:
            self._check_owner()
            process, self._process = self._process, None
            if process is None:
                return
            for harder in modes[modes.index(mode) :]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(_SIGNALS[harder])
                if ended([process], timeout):
                    return
            kill_tree(process)

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, leaving a crash to recover from. Returns when they are gone."""
        with self._lock:
            self._check_owner()
            process, self._process = self._process, None
            if process is not None:
                kill_tree(process)

    def close(self) -> None:
        """Stop the server and remove its folder, for good; idempotent, and without effect in a forked child."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = True
            atexit.unregister(self.close)
            try:
                self.stop()
            finally:
                if self._guard is not None:
                    self._guard.close()
                    self._guard = None
                if self._port_keeper is not None:
                    self._port_keeper.close()
                if self._home is not None:  # a guard that was killed has left it
                    for folder in (self._home, self._plain):
                        shutil.rmtree(folder, ignore_errors=True)

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise ForkedError(f"{self!r} belongs to process {self._owner}: only that one may start or stop it")

    def _prepare(self) -> Path:
        """The server's folder, and whatever shall be known of it before the first start."""
        if self._home is not None:
            return self._home
        self._check_owner()
        self._identity = server_identity()
        bin_folder = bundled(self._version)
        home = self._plain = new_folder(self._identity, self._parent)
        try:
            self._plain = plain_folder(self._identity, home)
            self._sockets = give_folder(self._identity, self._plain / "run")
            self._programs = usable(bin_folder, self._plain, self._identity)
            if self._tcp:
                self._port, self._port_keeper = take_port()
            self._guard = Guard(home, [home, self._plain])
        except BaseException:
            if self._port_keeper is not None:
                self._port_keeper.close()
            for folder in (home, self._plain):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        atexit.register(self.close)
        self._home = home
        return home

    def _initdb(self, home: Path) -> None:
        shutil.rmtree(home / "data", ignore_errors=True)
        give_folder(self._identity, home / "data")
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        options += ["--auth-local=trust", f"--auth-host={'scram-sha-256' if self._password else 'reject'}"]
        command = [self._programs / "initdb", "-D", home / "data", *options]
        try:
            if self._password:
                # Into a file that only the server's user can read.
                with open(os.open(home / _PASSWORD, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    self._identity.own(file.fileno())
                    file.write(self._password)
                command.append(f"--pwfile={home / _PASSWORD}")
            if said := self._identity.run(command, cwd=home, timeout=INITDB_TIMEOUT):
                raise SetupError(f"initdb failed: {tail(said)}")
        finally:
            (home / _PASSWORD).unlink(missing_ok=True)
        self._has_data = True

    def _launch(self, home: Path) -> None:
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self._port),
            "unix_socket_directories": f'"{self._sockets}"',
            # In the data folder rather than in /dev/shm, where a killed server would leave it behind for ever.
            "dynamic_shared_memory_type": "mmap",
            **self._settings,
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        if self._guard is None or not self._guard.alive:
            if self._guard is not None:
                self._guard.close()
            self._guard = Guard(home, [home, self._plain])
        process = None
        try:
            process = self._guard.start([self._programs / "postgres", "-D", home / "data", *flags], self._identity)
            await_ready(process, home / "data" / "postmaster.pid")
        except BaseException as error:
            if process is not None:
                kill_tree(process)
            if isinstance(error, SetupError):
                log = home / LOG
                said = log.read_text(errors="replace") if log.exists() else ""
                raise SetupError(f"{error}; the end of its log: {tail(said)}") from None
            raise
        self._process = process
