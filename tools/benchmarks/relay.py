"""Counts the bytes between a client and a server, on their way through this process."""

import contextlib
import socket
import threading
from typing import Any, Iterator, List

from tasks import HOST

_PIECE = 2**16


class Relay:
    """Connections that are passed on to a server.

    Attributes:
      address: "host:port", for the client.
      connections: how many the client has made.
      up: the bytes that went to the server.
      down: the bytes that came back.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._server = host, int(port)
        self._listening = socket.socket()
        self._listening.bind((HOST, 0))
        self._listening.listen(1)
        self.address = f"{HOST}:{self._listening.getsockname()[1]}"
        self.connections = self.up = self.down = 0
        self._open: List[Any] = [self._listening]
        _in_thread(self._accept)

    def close(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):  # the other end has closed it
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                server = socket.create_connection(self._server)
                self._open += [client, server]
                _in_thread(self._pass_on, client, server, "up")
                _in_thread(self._pass_on, server, client, "down")

    def _pass_on(self, source: Any, target: Any, way: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(_PIECE)
                if not piece:
                    break
                setattr(self, way, getattr(self, way) + len(piece))
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


def _in_thread(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


@contextlib.contextmanager
def relayed(address: str) -> Iterator[Relay]:
    """Yields a Relay to a server."""
    relay = Relay(address)
    try:
        yield relay
    finally:
        relay.close()
