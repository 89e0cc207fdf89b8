"""The file of a product log: what is cut off, damaged, another's, or shared."""

import os
import threading

import numpy as np
import pytest

from tf1xent.curvature.operators.product_log import ProductLog

SIZE = 5
RECORD = 32 + 8 * SIZE + 4
VECTORS = np.random.RandomState(4).normal(size=[3, SIZE])
PRODUCTS = np.array([[1.0, -0.0, 1e-310, 5.0, np.pi]] * 3) * [[1], [2], [3]]
IDENTITY = {"kind": "HessianOperator", "data": "of digits", "values": "of today"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


def opened(path, **changes):
    return ProductLog("HessianOperator", path, {**IDENTITY, **changes}, SIZE)


def written(path):
    """Write a log of three products; return its bytes."""
    log = opened(path)
    for vector, product in zip(VECTORS, PRODUCTS):
        assert log.find(vector) is None
        log.append(vector, product)
    return path.read_bytes()


def found(path):
    """Return which products a new reader finds, after checking their bits."""
    log = opened(path)
    products = [log.find(vector) for vector in VECTORS]
    for product, expected in zip(products, PRODUCTS):
        assert product is None or product.tobytes() == expected.tobytes()
    return [product is not None for product in products]


def test_products_are_found_by_their_vectors(path):
    written(path)
    assert found(path) == [True, True, True]
    assert opened(path).find(np.nextafter(VECTORS[0], 9.0)) is None
    assert opened(path).find(-VECTORS[0]) is None


@pytest.mark.parametrize("cut", [1, 4, RECORD // 2, RECORD - 1])
def test_a_record_that_is_cut_off_is_dropped(path, cut):
    whole = written(path)
    path.write_bytes(whole[:-cut])
    assert found(path) == [True, True, False]
    opened(path).append(VECTORS[2], PRODUCTS[2])
    assert path.read_bytes() == whole


def test_a_last_record_that_did_not_reach_the_disk_is_dropped(path):
    whole = written(path)
    path.write_bytes(whole[:-RECORD] + bytes(RECORD))
    assert found(path) == [True, True, False]
    opened(path).append(VECTORS[2], PRODUCTS[2])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 1, 40])
def test_a_header_that_is_cut_off_is_written_anew(path, length):
    whole = written(path)
    path.write_bytes(whole[:length])
    assert written(path) == whole


def refused(path, match, **changes):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=match) as caught:
        opened(path, **changes)
    message = str(caught.value)
    assert message.startswith("HessianOperator: `log` must") and str(path) in message
    assert "It is left as it was." in message
    assert path.read_bytes() == before


def test_a_damaged_record_in_the_middle_is_refused(path):
    data = bytearray(written(path))
    data[-2 * RECORD + 40] ^= 1
    path.write_bytes(bytes(data))
    refused(path, "damaged in its record 1")


@pytest.mark.parametrize(
    "content, match",
    [
        (b"a diary\n", "no product log"),
        (b"\x00" * 100, "no product log"),
        (b"{}\n", "no product log"),
        (b"[1]\n", "no product log"),
        (b'{"format": "tf1xent product log 9"}\n', "format 'tf1xent product log 9'"),
    ],
)
def test_another_file_is_refused(path, content, match):
    path.write_bytes(content)
    refused(path, match)


def test_what_differs_is_said(path):
    written(path)
    refused(path, "differs in: the data. It", data="other")
    refused(path, "differs in: the values of the variables. It", values="of tomorrow")
    refused(path, "the kind of the operator; the data. It", kind="GGNOperator", data="other")


def test_two_users_of_a_file_share_it_and_wait_for_each_other(path):
    fcntl = pytest.importorskip("fcntl")
    first, second = opened(path), opened(path)
    first.append(VECTORS[0], PRODUCTS[0])
    assert second.find(VECTORS[0]).tobytes() == PRODUCTS[0].tobytes()
    second.append(VECTORS[0], PRODUCTS[1])  # there already
    with open(str(path), "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        waiting = threading.Thread(target=second.append, args=(VECTORS[1], PRODUCTS[1]))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(60)
    assert first.find(VECTORS[1]).tobytes() == PRODUCTS[1].tobytes()
    first.append(VECTORS[2], PRODUCTS[2])
    assert found(path) == [True, True, True]


def test_a_file_that_is_deleted_is_begun_again(path):
    written(path)
    log = opened(path)
    os.remove(str(path))
    assert log.find(VECTORS[0]) is None
    log.append(VECTORS[1], PRODUCTS[1])
    assert found(path) == [False, True, False]
