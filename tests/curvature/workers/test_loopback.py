"""Sockets that hear nothing from outside: asked from the machine's own other address."""

import contextlib
import socket
import sys

import pytest

from tests.support.addresses import has_ipv6, is_closed, is_open, outer_address
from tf1xent.curvature.workers import loopback

OUTER = outer_address()
# What the tests skip where there is nothing to ask from.
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or OUTER is None or not has_ipv6(),
    reason="needs Linux with IPv6, and a network interface besides the loopback",
)


@pytest.fixture
def listener():
    """Listens on all interfaces, as TensorFlow's server does; IPv4 comes over IPv6."""
    with socket.socket(socket.AF_INET6) as made:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::", 0))
        made.listen(8)
        made.setblocking(False)
        yield made


@pytest.fixture
def port(listener):
    return listener.getsockname()[1]


def test_only_the_loopback_gets_through(listener, port):
    assert all(is_open(address, port) for address in ("127.0.0.1", "::1", OUTER))
    assert loopback.why_not() is None
    loopback.limit_to_loopback(port)
    assert all(is_open(address, port) for address in ("127.0.0.1", "127.1.2.3", "::1"))
    assert is_closed(OUTER, port)


def test_a_socket_of_ipv4_is_limited_too():
    with socket.socket() as made:
        made.bind(("", 0))
        made.listen(8)
        made.setblocking(False)
        port = made.getsockname()[1]
        assert is_open(OUTER, port)
        loopback.limit_to_loopback(port)
        assert is_open("127.0.0.1", port) and is_closed(OUTER, port)


def test_data_passes_the_filter(listener, port):
    loopback.limit_to_loopback(port)
    with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as server:
        server.setblocking(True)
        client.sendall(b"x" * 100000)
        client.shutdown(socket.SHUT_WR)
        assert len(b"".join(iter(lambda: server.recv(65536), b""))) == 100000


def test_what_was_connected_from_elsewhere_is_closed(listener, port):
    with contextlib.ExitStack() as stack:
        early = [stack.enter_context(socket.create_connection((OUTER, port), 5)) for _ in range(3)]
        stack.enter_context(listener.accept()[0])  # the others wait for it
        loopback.limit_to_loopback(port)
        for connection in early:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_early_client_of_this_machine_keeps_its_connection(address, listener, port):
    with socket.create_connection((address, port), 20) as early, listener.accept()[0] as server:
        loopback.limit_to_loopback(port)
        early.sendall(b"x")
        server.setblocking(True)
        assert server.recv(1) == b"x"


def test_other_sockets_are_left_alone(listener, port):
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::", 0))
        other.listen(1)
        loopback.limit_to_loopback(port)
        assert is_open(OUTER, other.getsockname()[1])


def test_a_port_that_nobody_listens_on_is_an_error():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        number = bound.getsockname()[1]
        with pytest.raises(OSError, match="no socket of this process listens at port"):
            loopback.limit_to_loopback(number)


def test_the_interfaces_besides_the_loopback_are_named():
    assert loopback.other_interfaces()
    assert "lo" not in loopback.other_interfaces()


def test_a_kernel_that_takes_no_filter_is_noticed(monkeypatch, listener, port):
    monkeypatch.setattr(loopback, "_SO_ATTACH_FILTER", 9999)
    assert loopback.why_not().startswith("the kernel refuses: ")
    with pytest.raises(OSError):
        loopback.limit_to_loopback(port)
    monkeypatch.setattr(loopback.sys, "platform", "darwin")
    assert loopback.why_not() == "it needs Linux"
