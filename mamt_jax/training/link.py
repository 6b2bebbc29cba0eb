"""What processes that train one run tell each other: how far they are, and that one has ended.

Every process has one connection to process 0, whose messages are lines of JSON. Seeds never need
one another, so there is nothing else to say, and the programs are those of a run in one process.
That is why this is no ``jax.distributed``: its service brings collectives that nobody calls, makes
all devices of all processes JAX's own, and where a process ends it aborts the others from C++.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mamt_jax.errors import RunError

BEAT = 5.0  # seconds between signs of life
SILENCE = 20.0  # seconds without one after which a process counts as gone
GRACE = 30.0  # seconds that the others have to save what they are at
PATIENCE = 300.0  # seconds that processes may begin after one another
_LONGEST = 1 << 16  # characters of a message


@dataclass(frozen=True)
class Position:
    """Which of the processes this is, and where process 0 listens."""

    host: str
    port: int
    index: int
    count: int

    @property
    def name(self) -> str:
        """For people, who count as they do with ``--process``."""
        return f"process {self.index}/{self.count}"


class _Peer:
    """The other end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SILENCE)
        self._connection, self._lock = connection, threading.Lock()
        self._lines = connection.makefile("r", encoding="utf-8")
        self.index, self.done = 0, False

    def send(self, **message: Any) -> None:
        """Says something, if anybody listens."""
        with self._lock, suppress(OSError):
            self._connection.sendall(f"{json.dumps(message)}\n".encode())

    def receive(self) -> dict[str, Any]:
        """The next message.

        Raises:
            OSError, ValueError: The other has gone, says nothing, or not this.
        """
        line = self._lines.readline(_LONGEST)
        if not line.endswith("\n"):
            raise ConnectionResetError("the connection was closed")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("no message")
        return message

    def close(self) -> None:
        """Hangs up."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._connection.close()


class Link:
    """The connections of one process.

    Args:
        position: Of this process.
        run: What it is to train; all must have been told the same.
        heard: Called with the index of a process and what it tells of itself, on process 0.
    """

    def __init__(
        self, position: Position, run: str, heard: Callable[[int, dict[str, Any]], None]
    ) -> None:
        self.position, self._run, self._heard = position, run, heard
        self._peers: list[_Peer] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.lost = ""
        """Why all are to stop: a sentence without its full stop."""
        self.how_to_go_on = ""
        """What follows the sentence where there is no time to save."""

    def open(self) -> None:
        """Finds the other processes.

        Raises:
            RunError: They do not come, or were told something else.
        """
        self._start(self._beat)
        (self._listen if self.position.index == 0 else self._join)()

    def watch(self) -> None:
        """From here on all are told when one ends."""
        for peer in self._peers:
            self._start(self._follow, peer)

    def tell(self, **what: Any) -> None:
        """Tells process 0 of this one."""
        if self.position.index == 0:
            self._heard(0, what)
        else:
            self._peers[0].send(tell=what)

    def send(self, **message: Any) -> None:
        """Tells all who are connected to this process."""
        for peer in [*self._peers]:
            peer.send(**message)

    def receive(self) -> dict[str, Any]:
        """What process 0 answers at the beginning; raises RunError where it sends this one away."""
        try:
            while not (message := self._peers[0].receive()):
                pass
        except (OSError, ValueError) as error:
            raise RunError("Process 0 has ended before training began.") from error
        if "stop" in message:
            raise RunError(str(message["stop"]))
        return message

    def finish(self) -> None:
        """Says that this process is done; process 0 waits for all."""
        if self.position.index:
            self._peers[0].send(done=True)
            return
        while not self.lost and not all(peer.done for peer in self._peers):
            time.sleep(0.05)

    def close(self) -> None:
        """Hangs up; whoever is not done yet takes it for the end of this process."""
        self._closed.set()
        for peer in self._peers:
            peer.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _listen(self) -> None:
        """Takes a connection from every other process."""
        host, port, count = self.position.host, self.position.port, self.position.count
        try:
            alone = host in ("localhost", "127.0.0.1")
            server = socket.create_server((host if alone else "", port))
        except OSError as error:
            raise RunError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from error
        missing, end = set(range(1, count)), time.monotonic() + PATIENCE
        with server:
            while missing:
                server.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    connection, _ = server.accept()
                except TimeoutError as error:
                    names = ", ".join(f"{index}/{count}" for index in sorted(missing))
                    raise RunError(f"Not all came within {PATIENCE:.0f} s: no {names}.") from error
                peer = _Peer(connection)
                if refused := self._refused(peer, missing):
                    peer.send(stop=refused)
                    peer.close()
                else:
                    missing.discard(peer.index)
                    self._peers.append(peer)

    def _refused(self, peer: _Peer, missing: set[int]) -> str:
        """Why one who comes is sent away; empty where it is one of those who are to come."""
        try:
            said = peer.receive()
            peer.index, count, run = int(said["hello"]), int(said["count"]), str(said["run"])
        except (OSError, ValueError, KeyError, TypeError):
            return "This is no process of the run."
        if count != self.position.count:
            return f"Process 0 counts {self.position.count} processes, this one {count}."
        if peer.index not in missing:
            return f"There is a process {peer.index}/{count} already."
        if run != self._run:
            return "Process 0 was given other settings, or has another version of mamt_jax."
        return ""

    def _join(self) -> None:
        """Connects to process 0, which may begin later."""
        host, port = self.position.host, self.position.port
        end = time.monotonic() + PATIENCE
        while True:
            try:
                connection = socket.create_connection((host, port), timeout=SILENCE)
                break
            except OSError as error:
                unknown = isinstance(error, socket.gaierror)
                if unknown or time.monotonic() > end:
                    waited = "" if unknown else f" within {PATIENCE:.0f} s"
                    raise RunError(
                        f"No coordinator answers at {host}:{port}{waited} "
                        f"({error.strerror or error}); process 0 listens there."
                    ) from error
                time.sleep(0.2)
        peer = _Peer(connection)
        peer.send(hello=self.position.index, count=self.position.count, run=self._run)
        self._peers = [peer]

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            self.send()

    def _follow(self, peer: _Peer) -> None:
        """Hears one process until it is done or gone."""
        while True:
            try:
                message = peer.receive()
            except (OSError, ValueError) as error:
                silent = isinstance(error, TimeoutError)
                why = f": nothing was heard of it for {SILENCE:.0f} s" if silent else ""
                return self._lose(f"Process {peer.index}/{self.position.count} has ended{why}")
            if message.get("done"):
                peer.done = True
                return
            if "stop" in message:
                return self._lose(str(message["stop"]))
            if isinstance(message.get("tell"), dict):
                self._heard(peer.index, message["tell"])

    def _lose(self, why: str) -> None:
        """All stop: saved at the next logging point, or where that takes too long, at once."""
        with self._lock:
            if self.lost or self._closed.is_set():
                return
            self.lost = why
        self.send(stop=why)
        timer = threading.Timer(GRACE, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        if self._closed.is_set():
            return
        with suppress(OSError, ValueError):
            print(f"mamt: {self.lost}; {self.how_to_go_on}", file=sys.stderr, flush=True)
        if hosted := sys.modules.get("mamt_jax.envs.hosted"):
            hosted.end_started()
        os._exit(1)
