"""Addresses of this machine, and whether something listens there."""

import socket

# Reserved for documentation: nobody has it, and a datagram socket sends nothing to connect.
ELSEWHERE = ("192.0.2.77", 9)
# What opens does so at once, but for a machine that is busy; what is dropped never does.
PATIENCE, IMPATIENCE = 20.0, 1.0


def outer_address():
    """Returns an IPv4 address of this machine that others may reach, or None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(ELSEWHERE)
        except OSError:
            return None
        address = asking.getsockname()[0]
    return None if address.startswith("127.") else address


def has_ipv6():
    """Whether the loopback has an address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as asking:
            asking.bind(("::1", 0))
    except OSError:
        return False
    return True


def is_open(address, port, patience=PATIENCE):
    """Whether a connection can be opened."""
    try:
        socket.create_connection((address, port), patience).close()
    except OSError:
        return False
    return True


def is_closed(address, port):
    """Whether none can be opened."""
    return not is_open(address, port, IMPATIENCE)
