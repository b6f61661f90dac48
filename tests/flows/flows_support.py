"""Ports for the tests of what `tinylm up` serves, and a program that has taken one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from tinylm.prefect_processes import HOST


def server_port() -> int:
    """Return a port that nobody listens on, and the next one neither: a server's, and its reports'."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind((HOST, 0))
            port = int(first.getsockname()[1])
            with suppress(OSError, OverflowError):
                second.bind((HOST, port + 1))
                return port


@contextmanager
def another_program(words: bytes) -> Iterator[int]:
    """Have a program of another kind answer one request with `words`; yield its port."""
    with socket.create_server((HOST, 0)) as listener:

        def answer() -> None:
            client = listener.accept()[0]
            client.recv(4096)
            client.sendall(words)
            client.close()

        thread = Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)
