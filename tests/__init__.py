"""Tests of tf1xent: a folder for each of its packages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
