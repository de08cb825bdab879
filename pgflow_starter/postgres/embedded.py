"""A PostgreSQL server of our own in a temporary folder: for the demo, for tests, and for breaking it on purpose."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from psycopg.conninfo import make_conninfo

from pgflow_starter.errors import ForkedError, SetupError
from pgflow_starter.postgres.binaries import bundled, usable
from pgflow_starter.postgres.identity import Identity, server_identity
from pgflow_starter.postgres.places import free_port, new_folder, plain_folder
from pgflow_starter.postgres.postmaster import await_ready, kill_tree, tail

STOP_TIMEOUT = 30.0
INITDB_TIMEOUT = 120.0

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Its standard input is a pipe that we hold: however we end, it reads the end of it.
_GUARD = 'trap "" HUP INT TERM; cat >/dev/null; "$1/pg_ctl" stop -s -D "$2" -m immediate; rm -rf "$3" "$4"'


class EmbeddedPostgres:
    """A PostgreSQL server from PyPI, listening on a private socket or on 127.0.0.1, superuser `postgres`, no password.

    Its data lives in a new temporary folder and outlives `stop` and `kill`; `close` removes it, as does the end of the
    process, be it a SIGKILL (unless a forked child outlives it: that one holds the pipe which tells). With `tcp=True`
    every user of this machine can connect. `settings` are server settings by name and win over ours. `parent` is where
    the folder is made: where it cannot be, and without it, in $TMPDIR.

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
        self._sockets: Path | None = None
        self._programs = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._port = 5432
        self._has_data = False
        self._closed = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedPostgres {self._version} {'tcp' if self._tcp else 'socket'} in {self._home}>"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None while it does not run. Never waits."""
        process = self._process
        return process.pid if process is not None and os.getpid() == self._owner and process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the postmaster lives. Never waits."""
        return self.pid is not None

    def conninfo(self, dbname: str = "postgres") -> str:
        """The libpq connection string of a database here, the same over all starts. Raises SetupError."""
        if self._home is None:
            with self._lock:
                self._prepare()
        host = "127.0.0.1" if self._tcp else str(self._sockets)
        return make_conninfo(host=host, port=self._port, user="postgres", dbname=dbname)

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
                process.send_signal(_SIGNALS[harder])
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    continue
                return
            kill_tree(process)

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, leaving a crash to recover from. Returns when they are gone."""
        with self._lock:
            self._check_owner()
            process, self._process = self._process, None
            if process is not None and process.poll() is None:
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
                for folder in (self._home, self._sockets):
                    if folder is not None:
                        shutil.rmtree(folder, ignore_errors=True)
                if self._guard is not None and self._guard.stdin is not None:
                    self._guard.stdin.close()
                    self._guard.wait(STOP_TIMEOUT)
                    self._guard = None

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
        home = new_folder(self._identity, self._parent)
        try:
            self._sockets = plain_folder(self._identity, home)
            self._programs = usable(bin_folder, self._sockets, self._identity)
            self._port = free_port() if self._tcp else self._port
            guard = ["/bin/sh", "-c", _GUARD, "pgflow-guard", self._programs, home / "data", home, self._sockets]
            self._guard = self._identity.start(guard, cwd=home)
        except BaseException:
            for folder in (home, self._sockets):
                shutil.rmtree(folder or home, ignore_errors=True)
            raise
        atexit.register(self.close)
        self._home = home
        return home

    def _initdb(self, home: Path) -> None:
        shutil.rmtree(home / "data", ignore_errors=True)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command = [self._programs / "initdb", "-D", home / "data", *options]
        if said := self._identity.run(command, cwd=home, timeout=INITDB_TIMEOUT):
            raise SetupError(f"initdb failed: {tail(said)}")
        self._has_data = True

    def _launch(self, home: Path) -> None:
        log = home / "data" / "server.log"
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self._port),
            "unix_socket_directories": f'"{self._sockets}"',
            # In the data folder rather than in /dev/shm, where a killed server would leave it behind for ever.
            "dynamic_shared_memory_type": "mmap",
            **self._settings,
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        process = self._identity.start([self._programs / "postgres", "-D", home / "data", *flags], cwd=home, log=log)
        try:
            await_ready(process, home / "data" / "postmaster.pid")
        except BaseException as error:
            if process.poll() is None:
                kill_tree(process)
            if isinstance(error, SetupError):
                said = log.read_text(errors="replace") if log.exists() else ""
                raise SetupError(f"{error}; the end of its log: {tail(said)}") from None
            raise
        self._process = process
