"""Processes of our own: each is handed one request and answers in lines of JSON.

A child is a fresh interpreter (`python -m MODULE`): nothing of the caller's threads or memory is in
it, and a caller's script is not run a second time. It ends when its caller does, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Send = Callable[..., None]


class Child:
    """The caller's side of one child."""

    def __init__(
        self, module: str, request: dict[str, Any], answered: Callable[[list[Any]], None]
    ) -> None:
        """
        Args:
            module: what the child runs; it calls `serve`.
            answered: gets each line of the child, on a thread of its own.
        """
        with _signals_kept_from_children():
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self._process.stdin is not None
        # Stays open: a child ends when it is closed, as by the death of this process.
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        self._answered = answered
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> int:
        """Until it has said all and ended; its exit status, negative for a signal."""
        self._reader.join()
        return self._process.wait()

    def kill(self) -> None:
        """End it if it still runs, without waiting for it."""
        if self._process.poll() is None:
            self._process.kill()

    def stop(self) -> None:
        """End it if it still runs, and wait for that."""
        self.kill()
        self._process.wait()
        self._reader.join(timeout=1)  # a grandchild might hold the pipe open
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # the stream is closed while it is read: stopped
            for line in self._process.stdout:
                self._answered(json.loads(line))


def serve(work: Callable[[dict[str, Any], Send], None]) -> int:
    """The child's side: call `work` with the request and what sends a line; gives the exit status.

    `send` may be called from any thread. What libraries print to stdout goes to stderr.
    """
    _die_with_the_caller()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    line = sys.stdin.readline()
    if not line:
        return 1  # the caller is gone already
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    lock = threading.Lock()

    def send(*message: Any) -> None:
        with lock:
            out.write(json.dumps(message) + "\n")
            out.flush()

    work(json.loads(line), send)
    return 0


def _die_with_the_caller() -> None:
    """Linux ends this process the moment that its caller is killed, whatever it computes."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_the_caller() -> None:
    """The same on every system, as soon as this thread comes to run: stdin ends."""
    os.read(0, 1)
    os._exit(1)


@contextlib.contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; children started in here are ended by this one,
    quietly, instead of each telling of it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield  # a child begins with the mask of the thread that starts it
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
