"""Fixtures of the tests of the seam."""

import pytest

import tf1xent


@pytest.fixture
def overridden():
    """TensorFlow's own gradients are overridden during the test."""
    tf1xent.override_gradients()
    yield
    tf1xent.restore_gradients()
