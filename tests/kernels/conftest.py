"""Fixtures of the tests of builds."""

import pytest

from tests.kernels.fake_builds import write_compiler, write_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sources, with the cache beside them."""
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return write_sources(tmp_path / "sources")


@pytest.fixture
def compiler(tmp_path):
    return write_compiler(tmp_path / "compiler")
