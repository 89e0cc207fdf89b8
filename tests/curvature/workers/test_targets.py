"""Which workers `workers=` of an operator names, and whether one listens."""

import socket

import pytest
import tensorflow.compat.v1 as tf

from tf1xent.curvature.workers.targets import refuses, targets_of

TWO = ["grpc://a:1", "grpc://b:2"]
FORMS = {
    "addresses": ["a:1", "b:2"],
    "targets": TWO,
    "of a server": (b"grpc://a:1", "b:2"),
    "dict": {"worker": ["a:1", "b:2"]},
    "sparse dict": {"worker": {0: "a:1", 7: "b:2"}},
    "cluster": tf.train.ClusterSpec({"worker": ["a:1", "b:2"], "ps": ["c:3"]}),
    "one job": {"evaluators": ["a:1", "b:2"]},
}
REFUSED = {
    "one string": ("a:1", TypeError, "must be a list of targets.*got str"),
    "a number": ([1], TypeError, "must hold strings, got int"),
    "nothing": ([], ValueError, "must name a worker, got none"),
    "an empty job": ({"worker": []}, ValueError, "must name a worker, got none"),
    "no job": ({}, ValueError, "must have the job 'worker' or only one.*none"),
    "two jobs": (
        {"a": ["a:1"], "b": ["b:2"]},
        ValueError,
        "must have .* only one, got the jobs a, b",
    ),
    "twice": (["a:1", "grpc://a:1"], ValueError, "must name each worker once, got grpc://a:1"),
    "no port": (["a"], ValueError, "must hold 'host:port'.*got 'a'"),
    "local": ([""], ValueError, "must hold 'host:port'"),
    "another scheme": (["http://a:1"], ValueError, "must hold 'host:port'"),
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_forms(name):
    assert targets_of("HessianOperator", FORMS[name]) == TWO


def test_an_address_of_version_6():
    assert targets_of("HessianOperator", ["[::1]:80"]) == ["grpc://[::1]:80"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name):
    workers, error, match = REFUSED[name]
    with pytest.raises(error, match=f"^HessianOperator: `workers` {match}"):
        targets_of("HessianOperator", workers)


def test_a_port_refuses_when_nothing_listens():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        target = "grpc://{}:{}".format(*listening.getsockname())
        # A stopped process accepts nothing, and its queue gets full.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        assert not refuses(target, 0.05)
        for one in waiting:
            one.close()
    assert refuses(target, 0.05)
