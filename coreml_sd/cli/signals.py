"""Ctrl-C and SIGTERM end a command at once, whatever it computes, and leave no half files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from coreml_sd.processes.stopping import clean_up

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """While the block runs, SIGINT and SIGTERM clean up and end the process (130, 143).

    A Python signal handler waits until the main thread is back from compiled code, and an
    exception has to wait for threads that are joined on the way out: seconds, in a large model.
    So the signal wakes a thread of its own, which cleans up and ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, _park) for number in _SIGNALS}
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()  # ends the thread


def _park(number: int, frame: Any) -> None:
    """The main thread goes no further: the other thread is ending the process."""
    threading.Event().wait()


def _watch(reader: socket.socket) -> None:
    with reader:
        while received := reader.recv(1):
            if received[0] in _SIGNALS:
                _stop(received[0])


def _stop(number: int) -> None:
    # Nothing here may wait for a lock that the parked main thread holds: no click, no rich.
    with contextlib.suppress(BaseException):
        said = clean_up() or ["nothing was left behind"]
        terminal = _SHOW_CURSOR + "\n" if sys.stderr.isatty() else ""
        os.write(2, f"{terminal}stopped; {'; '.join(said)}\n".encode())
    os._exit(128 + number)
