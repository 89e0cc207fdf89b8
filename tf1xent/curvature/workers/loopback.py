"""Limits a server that listens on all interfaces to connections of its own machine.

TensorFlow's server binds 0.0.0.0 whatever its cluster says. Linux can drop what arrives at the
socket: a socket filter, which needs no privileges, runs on each packet, also on those that open a
connection. To the outside the port then looks as behind a firewall.
"""

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
import sys
from typing import Any, Dict, Iterator, List, Optional

# Of <asm/socket.h>. To read, the same number gives back the filter's number of instructions.
_SO_ATTACH_FILTER = 26
# Instructions of <linux/filter.h>; where addresses begin of what is no content of the packet.
_LOAD, _LOAD_BYTE, _SHIFT_RIGHT, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x74, 0x15, 0x06
_ANCILLARY, _NETWORK_HEADER = -0x1000, -0x100000
_INTERFACE = _ANCILLARY + 8
_V4_DESTINATION, _V6_DESTINATION = _NETWORK_HEADER + 16, _NETWORK_HEADER + 24
_PASS, _DROP = 0xFFFFFFFF, 0
_DESCRIPTORS = "/proc/self/fd"
_LOOPBACK_NAMES = ("lo", "lo0")


def other_interfaces() -> Optional[List[str]]:
    """Returns the names of all network interfaces but the loopback, or None if unknown."""
    try:
        names = [name for _, name in socket.if_nameindex()]
    except (AttributeError, OSError):  # Windows before Python 3.8; a sandbox
        return None
    return [n for n in names if n not in _LOOPBACK_NAMES and not n.lower().startswith("loopback")]


def why_not() -> Optional[str]:
    """Returns why sockets of this process cannot be limited to the loopback, or None if they can.

    Asks the kernel with a socket that nobody knows.
    """
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    try:
        with socket.socket() as probe:
            _attach(probe)
        os.listdir(_DESCRIPTORS)
    except OSError as error:
        return f"the kernel refuses: {error.strerror or error}"
    return None


def limit_to_loopback(port: int) -> None:
    """Makes listening sockets of this process at `port` ignore all that comes from elsewhere.

    Connections that come from elsewhere and are there already are closed; those that nobody has
    accepted yet are closed wherever they come from. So call it before a server serves.

    Args:
      port: the port that the process listens on.

    Raises:
      OSError: the kernel does not take the filter, or nothing listens at the port.
    """
    listening = 0
    for found in _own_sockets(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            _attach(found)
            listening += 1
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.accept()[0].close()
    if not listening:
        raise OSError(f"no socket of this process listens at port {port}")
    for found in _own_sockets(port):
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            with contextlib.suppress(OSError):  # the other side has closed it
                if not (_is_loopback(found.getsockname()) and _is_loopback(found.getpeername())):
                    found.shutdown(socket.SHUT_RDWR)


def _own_sockets(port: int) -> Iterator[socket.socket]:
    """Yields a duplicate of each TCP socket of this process whose own port is `port`."""
    for name in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError):  # closed since, or no socket
            duplicate = os.dup(int(name))
            try:
                found = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                raise
            with found:
                is_tcp = found.family in (socket.AF_INET, socket.AF_INET6)
                if is_tcp and found.getsockname()[1] == port:
                    yield found


def _is_loopback(address: Any) -> bool:
    """Whether an address of a socket is one of the loopback; IPv4 may be written as IPv6."""
    return ipaddress.ip_address(address[0].replace("::ffff:", "").partition("%")[0]).is_loopback


def _attach(limited: socket.socket) -> None:
    """Attaches the filter to a socket; OSError unless the kernel says that it has it."""
    program = _program(socket.if_nametoindex("lo"))
    instructions = ctypes.create_string_buffer(b"".join(program))
    address = ctypes.addressof(instructions)
    limited.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), address)
    )
    kept = limited.getsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, len(instructions))
    if len(kept) != len(program):
        raise OSError("it has dropped the filter")


def _program(loopback: int) -> List[bytes]:
    """The filter: passes what has come over the loopback, to an address of the loopback.

    The second condition makes the port look as one that is bound to 127.0.0.1; the first holds
    also on machines that route packets from outside to 127.0.0.1 (``route_localnet``).
    """
    # Name of the row, instruction, operand; of a comparison, the rows where it goes on if equal
    # and if not, "" for the next.
    rows = (
        ("", _LOAD, _INTERFACE, "", ""),
        ("", _JUMP_IF_EQUAL, loopback, "", "drop"),
        ("", _LOAD_BYTE, _NETWORK_HEADER, "", ""),
        ("", _SHIFT_RIGHT, 4, "", ""),
        ("", _JUMP_IF_EQUAL, 4, "", "version 6"),
        ("", _LOAD_BYTE, _V4_DESTINATION, "", ""),
        ("", _JUMP_IF_EQUAL, 127, "pass", "drop"),
        ("version 6", _LOAD, _V6_DESTINATION, "", ""),
        ("", _JUMP_IF_EQUAL, 0, "", "drop"),
        ("", _LOAD, _V6_DESTINATION + 4, "", ""),
        ("", _JUMP_IF_EQUAL, 0, "", "drop"),
        ("", _LOAD, _V6_DESTINATION + 8, "", ""),
        ("", _JUMP_IF_EQUAL, 0, "", "drop"),
        ("", _LOAD, _V6_DESTINATION + 12, "", ""),
        ("", _JUMP_IF_EQUAL, 1, "pass", "drop"),
        ("pass", _RETURN, _PASS, "", ""),
        ("drop", _RETURN, _DROP, "", ""),
    )
    places: Dict[str, int] = {row[0]: number for number, row in enumerate(rows)}
    program = []
    for number, (_, instruction, operand, if_equal, if_not) in enumerate(rows):
        jumps = [places[goal] - number - 1 if goal else 0 for goal in (if_equal, if_not)]
        program.append(struct.pack("HBBI", instruction, *jumps, operand & 0xFFFFFFFF))
    return program
