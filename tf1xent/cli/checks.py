"""What subcommands ask of their arguments, and of the installation before it is imported."""

import argparse
import importlib.util


def positive_integer(text: str) -> int:
    """Reads an argument that must be at least 1."""
    return _at_least(1, text)


def count(text: str) -> int:
    """Reads an argument that must be at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
    return number


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a finder may refuse
        return False
