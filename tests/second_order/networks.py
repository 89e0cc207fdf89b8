"""Ten whole networks as people build them, small; each function returns its scalar loss.

They use what every TensorFlow of the matrix has. The ones that TF 2.21 lost are built as they were
there: batch normalization by tf.nn.fused_batch_norm, layers by variables, the LSTM of the tagger by
a cell of our own.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from tf1xent import _tf

CLASSES = 3


def _random(*shape):
    return np.random.RandomState(sum(shape) + len(shape)).normal(size=shape)


def variable(name, *shape):
    """A variable with fixed values of its own, of a size that keeps logits small."""
    seed = sum(map(ord, tf.get_variable_scope().name + name)) % 1000
    scale = 1.0 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3
    values = np.random.RandomState(seed).normal(scale=scale, size=shape)
    start = tf.constant_initializer(values.astype(np.float32))
    return tf.get_variable(name, shape, tf.float32, start)


def dense(name, inputs, size):
    """A dense layer."""
    with tf.variable_scope(name):
        matrix = variable("kernel", int(inputs.shape[-1]), size)
        return tf.nn.bias_add(tf.matmul(inputs, matrix), variable("bias", size))


def convolution(name, images, size, channels, stride=1, padding="SAME"):
    """A convolution with bias."""
    with tf.variable_scope(name):
        kernel = variable("kernel", size, size, int(images.shape[-1]), channels)
        strides = [1, stride, stride, 1]
        return tf.nn.bias_add(
            tf.nn.conv2d(images, kernel, strides=strides, padding=padding),
            variable("bias", channels),
        )


def images(size=8, channels=3):
    return tf.constant(_random(2, size, size, channels), tf.float32)


def cross_entropy(logits):
    """The mean sparse cross-entropy over all rows."""
    logits = tf.reshape(logits, [-1, CLASSES])
    labels = tf.range(tf.shape(logits)[0]) % CLASSES
    rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(rows)


def alexnet():
    net = tf.nn.relu(convolution("conv1", images(), 3, 6))
    net = tf.nn.lrn(net, depth_radius=2, bias=1.0, alpha=0.3, beta=0.75)
    net = tf.nn.max_pool(net, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")
    net = tf.nn.relu(convolution("conv2", net, 2, 4))
    net = tf.nn.lrn(net, depth_radius=2, bias=1.0, alpha=0.3, beta=0.75)
    net = tf.reshape(net, [2, -1])
    net = tf.nn.dropout(tf.nn.tanh(dense("fc", net, 5)), rate=0.0)
    return cross_entropy(dense("logits", net, CLASSES))


def vgg():
    net = images()
    for block, channels in enumerate((4, 5)):
        for layer in range(2):
            net = tf.nn.relu(convolution(f"conv{block}_{layer}", net, 3, channels))
        net = tf.nn.max_pool(net, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    net = tf.nn.relu(dense("fc", tf.reshape(net, [2, -1]), 6))
    loss = cross_entropy(dense("logits", net, CLASSES))
    return loss + 1e-3 * tf.add_n([tf.nn.l2_loss(v) for v in tf.trainable_variables()])


def _normalized(name, net, training):
    with tf.variable_scope(name):
        channels = int(net.shape[-1])
        scale, offset = variable("gamma", channels) + 1.0, variable("beta", channels)
        moments = {}
        if not training:
            moments = dict(
                mean=tf.constant(_random(channels), tf.float32),
                variance=tf.constant(_random(channels) ** 2 + 0.5, tf.float32),
            )
        return tf.nn.fused_batch_norm(net, scale, offset, is_training=training, **moments)[0]


def resnet(training):
    net = convolution("stem", images(6), 3, 4)
    for block in range(2):
        with tf.variable_scope(f"block{block}"):
            inner = tf.nn.relu(_normalized("bn1", net, training))
            inner = convolution("conv1", inner, 3, 4)
            inner = tf.nn.relu(_normalized("bn2", inner, training))
            net += convolution("conv2", inner, 3, 4)
    net = tf.reduce_mean(tf.nn.relu(net), [1, 2])
    return cross_entropy(dense("logits", net, CLASSES))


def resnet_training():
    return resnet(training=True)


def resnet_inference():
    return resnet(training=False)


def segmentation():
    down = tf.nn.relu(convolution("down", images(), 3, 4, stride=2))
    up = tf.image.resize_bilinear(down, [8, 8], align_corners=True)
    up = tf.nn.relu(convolution("up", up, 3, 4))
    coarse = convolution("coarse", tf.nn.avg_pool(up, [1, 4, 4, 1], [1, 4, 4, 1], "VALID"), 1, 4)
    up += tf.image.resize_nearest_neighbor(coarse, [8, 8])
    return cross_entropy(convolution("logits", up, 1, CLASSES))


def _sparse(rows=4, buckets=6):
    indices = [[row, column] for row in range(rows) for column in range(row % 3 + 1)]
    values = [(3 * row + column) % buckets for row, column in indices]
    return tf.SparseTensor(tf.constant(indices, tf.int64), tf.constant(values, tf.int64), [rows, 3])


def wide_and_deep():
    """With tf.nn.embedding_lookup_sparse, as tf.feature_column calls it."""
    deep = tf.nn.embedding_lookup_sparse(
        variable("embedding", 6, 4), _sparse(), None, combiner="mean"
    )
    deep = tf.concat([deep, tf.constant(_random(4, 2), tf.float32)], 1)
    deep = dense("deep_logits", tf.nn.relu(dense("hidden", deep, 5)), CLASSES)
    wide = tf.nn.embedding_lookup_sparse(
        variable("wide", 6, CLASSES), _sparse(), None, combiner="sum"
    )
    return cross_entropy(deep + wide)


def feature_columns():
    """Wide and deep by tf.feature_column; ValueError or so where Keras 3 has broken it."""
    column = tf.feature_column.categorical_column_with_identity("word", 6)
    features = {"word": _sparse()}
    start = tf.constant_initializer(_random(6, 4) * 0.4)
    deep = tf.feature_column.input_layer(
        features, [tf.feature_column.embedding_column(column, 4, initializer=start)]
    )
    wide = tf.feature_column.linear_model(features, [column], units=CLASSES)
    return cross_entropy(dense("logits", tf.nn.tanh(deep), CLASSES) + wide)


def text_cnn():
    words = tf.constant(np.arange(10).reshape(2, 5) % 7, tf.int32)
    embedded = tf.nn.embedding_lookup(variable("embedding", 7, 4), words)
    pooled = []
    for width in (2, 3):
        with tf.variable_scope(f"width{width}"):
            kernel = variable("kernel", width, 4, 3)
            net = tf.nn.conv1d(embedded, kernel, stride=1, padding="VALID")
            net = tf.nn.relu(tf.nn.bias_add(net, variable("bias", 3)))
            pooled.append(tf.reduce_max(net, 1))
    return cross_entropy(dense("logits", tf.concat(pooled, 1), CLASSES))


class _LSTMCell:
    """A cell for tf.nn.dynamic_rnn."""

    output_size = 4
    state_size = (4, 4)

    def zero_state(self, batch_size, dtype):
        return (tf.zeros([batch_size, 4], dtype),) * 2

    get_initial_state = None

    def __call__(self, inputs, state, scope=None):
        with tf.variable_scope(scope or "cell", reuse=tf.AUTO_REUSE):
            gates = dense("gates", tf.concat([inputs, state[1]], 1), 16)
        i, j, f, o = tf.split(gates, 4, 1)
        cell = tf.sigmoid(f + 1.0) * state[0] + tf.sigmoid(i) * tf.tanh(j)
        hidden = tf.sigmoid(o) * tf.tanh(cell)
        return hidden, (cell, hidden)


def _embedded_words():
    words = tf.constant(np.arange(8).reshape(2, 4) % 5, tf.int32)
    return tf.nn.embedding_lookup(variable("embedding", 5, 3), words)


def dynamic_rnn_tagger():
    start = (tf.zeros([2, 4]),) * 2
    outputs, _ = tf.nn.dynamic_rnn(
        _LSTMCell(),
        _embedded_words(),
        sequence_length=tf.constant([4, 2]),
        initial_state=start,
        dtype=tf.float32,
    )
    return cross_entropy(dense("logits", tf.reshape(outputs, [-1, 4]), CLASSES))


def fused_lstm_tagger():
    """By tf.contrib.rnn.LSTMBlockFusedCell; on TF 2.x by its op, which is still there."""
    inputs = tf.transpose(_embedded_words(), [1, 0, 2])
    try:
        from tensorflow.contrib.rnn import LSTMBlockFusedCell
    except ImportError:
        outputs = _block_lstm(inputs)
    else:
        outputs, _ = LSTMBlockFusedCell(4)(inputs, dtype=tf.float32)
    return cross_entropy(dense("logits", tf.reshape(outputs, [-1, 4]), CLASSES))


def _block_lstm(inputs):
    peephole = tf.zeros([4])
    return _tf.raw_op("BlockLSTM")(
        seq_len_max=tf.constant(4, tf.int64),
        x=inputs,
        cs_prev=tf.zeros([2, 4]),
        h_prev=tf.zeros([2, 4]),
        w=variable("kernel", 7, 16),
        wci=peephole,
        wcf=peephole,
        wco=peephole,
        b=variable("bias", 16),
        forget_bias=1.0,
        cell_clip=-1.0,
        use_peephole=False,
    )[6]


def transformer():
    net = _embedded_words()
    heads, size = 2, 4
    net = tf.reshape(dense("embed", tf.reshape(net, [-1, 3]), size), [2, 4, size])

    def split(tensor):
        return tf.transpose(tf.reshape(tensor, [2, 4, heads, size // heads]), [0, 2, 1, 3])

    def project(name, tensor, width):
        return tf.reshape(dense(name, tf.reshape(tensor, [-1, size]), width), [2, 4, width])

    query, key, value = (split(project(name, net, size)) for name in ("query", "key", "value"))
    weights = tf.matmul(query, key, transpose_b=True) / np.sqrt(size / heads)
    mask = tf.matrix_band_part(tf.ones([4, 4]), -1, 0)
    weights = tf.nn.softmax(weights - 1e4 * (1.0 - mask))
    attended = tf.reshape(tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3]), [2, 4, size])
    net = _layer_norm("norm1", net + project("output", attended, size))
    hidden = project("hidden", net, size)
    hidden = 0.5 * hidden * (1.0 + tf.erf(hidden / np.sqrt(2.0)))
    net = _layer_norm("norm2", net + project("back", hidden, size))
    return cross_entropy(project("logits", net, CLASSES))


def _layer_norm(name, net):
    with tf.variable_scope(name):
        size = int(net.shape[-1])
        mean = tf.reduce_mean(net, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(net - mean), -1, keepdims=True)
        normalized = (net - mean) * tf.rsqrt(variance + 1e-3)
        return normalized * (variable("gamma", size) + 1.0) + variable("beta", size)


def quantized_cnn():
    kernel = variable("quantized_kernel", 3, 3, 3, 4)
    kernel = tf.quantization.fake_quant_with_min_max_vars(
        kernel, tf.constant(-1.0), tf.constant(1.0), num_bits=16
    )
    net = tf.nn.conv2d(images(6), kernel, strides=[1, 2, 2, 1], padding="SAME")
    net = tf.quantization.fake_quant_with_min_max_args(
        tf.nn.relu(net), min=-6.0, max=6.0, num_bits=16
    )
    return cross_entropy(dense("logits", tf.reshape(net, [2, -1]), CLASSES))


NETWORKS = {
    function.__name__: function
    for function in (
        alexnet,
        vgg,
        resnet_training,
        resnet_inference,
        segmentation,
        wide_and_deep,
        feature_columns,
        text_cnn,
        dynamic_rnn_tagger,
        fused_lstm_tagger,
        transformer,
        quantized_cnn,
    )
}
