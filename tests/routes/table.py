"""The routes by which programs reach TensorFlow's functions. Imports no TensorFlow."""

import collections

import numpy as np

# Ordinary rows; and rows so confident that TensorFlow's own loss is 0 in float32.
LOGITS = np.array(
    [[0.5, -1.25, 2.0, 0.125], [1.5, 0.25, 1.0, -2.0], [0.0, 0.75, -0.5, -1.0]], np.float32
)
LABELS = np.array([2, 3, 0])
CONFIDENT_LOGITS = np.array(
    [[0.0, 1.0, 40.0, 2.0], [0.0, -1.0, 2.0, 42.0], [44.0, 1.5, 0.5, 0.0]], np.float32
)
SOFT_LABELS = np.array(
    [[0.125, 0.25, 0.5, 0.125], [0.0, 0.0, 0.25, 0.75], [0.5, 0.125, 0.125, 0.25]], np.float32
)
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
VECTORS = np.random.RandomState(5).normal(size=(3,) + LOGITS.shape).astype(np.float32)

# What is computed of confident rows, and of ordinary ones too: it tells whose function was called.
DERIVATIVES = ("order 1", "order 2", "order 3", "order 4")
CONFIDENT_QUANTITIES = ("loss", *DERIVATIVES[:2])
ALL_QUANTITIES = ("loss", "hessian", *DERIVATIVES)
ORDERS = ("patched first", "imported first")

# name: of the function in the program. needs: what TensorFlow must have. labels: sparse or dense.
# divisor: of the sum of losses (a mean over rows has 3). rebound: whether the call reaches us;
# "patched first" says that the program keeps what it found when it was imported.
Route = collections.namedtuple("Route", "program name needs labels divisor rebound")

_SPARSE = "sparse_softmax_cross_entropy_with_logits"
_DENSE = "softmax_cross_entropy_with_logits"


def _routes(program, *rows):
    result = []
    for name, needs, labels, divisor, rebound in rows:
        result.append(Route(program, name, needs, labels, divisor, rebound))
    return result


# In graphs, with TF1 behaviour.
GRAPH_ROUTES = (
    _routes(
        "through_attributes",
        ("nn_sparse", "nn." + _SPARSE, "sparse", 1, "always"),
        ("nn_dense", "nn." + _DENSE, "dense", 1, "always"),
        ("nn_dense_v2", "nn." + _DENSE + "_v2", "dense", 1, "always"),
        ("compat_v1_sparse", "compat.v1.nn." + _SPARSE, "sparse", 1, "always"),
        ("compat_v1_dense", "compat.v1.nn." + _DENSE, "dense", 1, "always"),
        ("compat_v1_dense_v2", "compat.v1.nn." + _DENSE + "_v2", "dense", 1, "always"),
        ("compat_v2_sparse", "compat.v2.nn." + _SPARSE, "sparse", 1, "always"),
        ("compat_v2_dense", "compat.v2.nn." + _DENSE, "dense", 1, "always"),
        ("losses_sparse", "compat.v1.losses", "sparse", 3, "always"),
        ("losses_dense", "compat.v1.losses", "dense", 3, "always"),
        ("keras_backend_sparse", "compat.v1.keras.backend", "sparse", 1, "always"),
        ("keras_backend_dense", "compat.v1.keras.backend", "dense", 1, "always"),
        (
            "keras_loss_sparse",
            "compat.v1.keras.losses.SparseCategoricalCrossentropy",
            "sparse",
            3,
            "always",
        ),
        (
            "keras_loss_dense",
            "compat.v1.keras.losses.CategoricalCrossentropy",
            "dense",
            3,
            "always",
        ),
        (
            "distributions_categorical",
            "compat.v1.distributions.Categorical",
            "sparse",
            1,
            "always",
        ),
        ("sampled_softmax", "compat.v1.nn.sampled_softmax_loss", "sparse", 1, "always"),
        ("contrib_sequence_loss", "contrib.seq2seq.sequence_loss", "sparse", 3, "always"),
        (
            "contrib_legacy_sequence_loss",
            "contrib.legacy_seq2seq.sequence_loss",
            "sparse",
            3,
            "always",
        ),
        (
            "contrib_losses",
            "contrib.losses.sparse_softmax_cross_entropy",
            "sparse",
            3,
            "always",
        ),
        ("estimator_head", "compat.v1.estimator.MultiClassHead", "sparse", 3, "always"),
        (
            "contrib_estimator_head",
            "contrib.estimator.multi_class_head",
            "sparse",
            3,
            "always",
        ),
        (
            "raw_op",
            "compat.v1.raw_ops.SparseSoftmaxCrossEntropyWithLogits",
            "sparse",
            1,
            "never",
        ),
        (
            "raw_op_dense",
            "compat.v1.raw_ops.SoftmaxCrossEntropyWithLogits",
            "dense",
            1,
            "never",
        ),
        ("generated_op", "", "sparse", 1, "never"),
        ("generated_op_dense", "", "dense", 1, "never"),
    )
    + _routes(
        "from_tensorflow_nn",
        ("sparse", "nn." + _SPARSE, "sparse", 1, "always"),
        ("dense", "nn." + _DENSE, "dense", 1, "always"),
        ("in_a_partial", "nn." + _SPARSE, "sparse", 1, "patched first"),
        ("as_default_argument", "nn." + _SPARSE, "sparse", 1, "patched first"),
        ("dense_as_default_argument", "nn." + _DENSE, "dense", 1, "patched first"),
        ("in_a_class", "nn." + _SPARSE, "sparse", 1, "patched first"),
    )
    + _routes(
        "from_compat_v1_nn",
        ("sparse", "compat.v1.nn." + _SPARSE, "sparse", 1, "always"),
        ("dense_v2", "compat.v1.nn." + _DENSE + "_v2", "dense", 1, "always"),
    )
)

# Programs that make their own variable.
MODEL_ROUTES = _routes(
    "models",
    ("keras_model", "compat.v1.keras.backend.get_session", "sparse", 3, "always"),
    ("keras_softmax_model", "compat.v1.keras.backend.get_session", "sparse", 3, "always"),
    ("estimator", "compat.v1.estimator.LinearClassifier", "sparse", 1, "always"),
    ("hidden_layer_estimator", "compat.v1.estimator.DNNClassifier", "sparse", 1, "always"),
)

# Eagerly and in tf.function, with TF2 behaviour.
EAGER_ROUTES = _routes(
    "eager",
    ("nn_sparse", "nn." + _SPARSE, "sparse", 1, "always"),
    ("nn_dense", "nn." + _DENSE, "dense", 1, "always"),
    ("compat_v1_sparse", "compat.v1.nn." + _SPARSE, "sparse", 1, "always"),
    ("inner_function", "nn." + _SPARSE, "sparse", 1, "always"),
    ("compat_v1_losses", "compat.v1.losses", "sparse", 3, "always"),
    ("keras_loss_sparse", "keras.losses.SparseCategoricalCrossentropy", "sparse", 3, "always"),
    ("keras_loss_dense", "keras.losses.CategoricalCrossentropy", "dense", 3, "always"),
    ("keras_function", "keras.losses", "sparse", 1, "always"),
    ("keras_ops_sparse", "keras.ops.sparse_categorical_crossentropy", "sparse", 1, "always"),
    ("keras_ops_dense", "keras.ops.categorical_crossentropy", "dense", 1, "always"),
    ("keras_compiled_model", "keras.Model.compute_loss", "sparse", 3, "always"),
)

ROUTES = {"graph": GRAPH_ROUTES + MODEL_ROUTES, "eager": EAGER_ROUTES}


def _first_of_each_kind(routes):
    kinds = {}
    for route in routes:
        kinds.setdefault((route.program, route.labels, route.rebound), route)
    return list(kinds.values())


# The derivatives above the second are the same functions' on all routes of a kind.
DEEP_ROUTES = [
    *_first_of_each_kind(ROUTES["graph"]),
    *_first_of_each_kind(ROUTES["eager"]),
    *(route for route in GRAPH_ROUTES if route.name.startswith("generated_op")),
]


def quantities(route, order):
    """What is computed of ordinary rows on a route, in an order of imports."""
    is_deep = order == "imported first" and route in DEEP_ROUTES
    return ALL_QUANTITIES if is_deep else CONFIDENT_QUANTITIES


def key(order, route):
    """The name of a route in an order of imports."""
    return f"{order}/{route.program}.{route.name}"
