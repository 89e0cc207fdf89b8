"""What TF 2.x no longer has of TF 1.x, and what to use instead: one row of a table for each part.

A row holds for the name and for all below it that have no row of their own. In the texts ``tf.``
means what a program has under ``--compat``: `tensorflow.compat.v1`.
"""

from typing import Dict

# Why a part is not there, by the first of its names.
_REASONS: Dict[str, str] = {
    "contrib": "TensorFlow 2.x has no tf.contrib",
    "estimator": "this TensorFlow has no tf.estimator, which ended with TensorFlow 2.15",
    "examples": "TensorFlow 2.x has no tensorflow.examples",
    "keras": "the Keras 3 of this TensorFlow cannot build graphs of TF 1.x",
    "layers": "the Keras 3 of this TensorFlow has no tf.layers",
    "models": "TensorFlow 2.x has no tensorflow.models",
    "nn": "the Keras 3 of this TensorFlow has no tf.nn.rnn_cell",
}

_SLIM = "Use `import tf_slim as slim` (pip install tf_slim)"
_IN_SLIM = "Use tf_slim.{name} (pip install tf_slim)"
_CELL = "Use tf.nn.rnn_cell.{name}"
_KERAS_2 = "Install Keras 2 (pip install tf_keras, the version of this TensorFlow)"
_ADDONS = "TensorFlow Addons had it, and has ended"
_PROBABILITY = "Use tensorflow_probability"
_OPTIMIZATION = "Use tensorflow_model_optimization"
_FORESTS = "Use tensorflow_decision_forests"
_NOTHING = "There is no replacement"
_SWAPPED = (
    ", and pass labels= and logits= by name: tf.contrib.losses takes (logits, labels), tf.losses "
    "(labels, logits)"
)
_FLIPPED = "Use tf.nn.{name}, and pass labels= and logits= by name: this one takes (logits, labels)"
_METRIC = (
    "Use tf.metrics.{name}, and pass labels= and predictions= by name: tf.contrib.metrics takes "
    "(predictions, labels), tf.metrics (labels, predictions)"
)

# The parts of tf.contrib that ended with it, and have no row of their own below.
_ENDED = (
    "all_reduce bigtable cloud coder copy_graph decision_trees deprecated fused_conv grid_rnn "
    "hadoop hooks ignite input_pipeline kafka kernel_methods kinesis labeled_tensor libsvm "
    "linear_optimizer memory_stats meta_graph_transform nearest_neighbor nn optimizer_v2 "
    "periodic_resample proto quantization rate receptive_field recurrent reduce_slice_ops "
    "remote_fused_graph resampler rpc session_bundle solvers sparsemax specs "
    "stat_summarizer testing text timeseries util"
)

# `{name}` in a text is the last part of the name, without a prefix of `_PREFIXES`.
_REPLACEMENTS: Dict[str, str] = {
    **{f"contrib.{part}": _NOTHING for part in _ENDED.split()},
    "contrib": "The error for a part of it, such as tf.contrib.slim, says what replaces the part",
    "contrib.autograph": "Use tf.autograph",
    "contrib.batching": "Use tf.nondifferentiable_batch_function",
    "contrib.bayesflow": _PROBABILITY,
    "contrib.boosted_trees": _FORESTS,
    "contrib.checkpoint": "Use tf.train.Checkpoint",
    "contrib.cluster_resolver": "Use tf.distribute.cluster_resolver",
    "contrib.compiler": "Use tf.xla.experimental",
    "contrib.constrained_optimization": "Use the package tensorflow_constrained_optimization",
    "contrib.crf": _ADDONS + " (tfa.text.crf_log_likelihood). Keep a copy of the function",
    "contrib.cudnn_rnn": "Use tf.nn.rnn_cell with tf.nn.dynamic_rnn",
    "contrib.data": "Use tf.data.experimental",
    "contrib.data.AUTOTUNE": "Use tf.data.experimental.AUTOTUNE",
    "contrib.data.batch_and_drop_remainder": "Use dataset.batch(batch_size, drop_remainder=True)",
    "contrib.data.map_and_batch": "Use dataset.map(function).batch(batch_size)",
    "contrib.data.padded_batch_and_drop_remainder": (
        "Use dataset.padded_batch(batch_size, shapes, drop_remainder=True)"
    ),
    "contrib.data.shuffle_and_repeat": "Use dataset.shuffle(buffer_size).repeat(count)",
    "contrib.data.unbatch": "Use dataset.unbatch()",
    "contrib.distribute": "Use tf.distribute",
    "contrib.distributions": _PROBABILITY + ".distributions, or the few of tf.distributions",
    "contrib.eager": "Use the same name of tf itself, such as tf.GradientTape and tf.Variable",
    "contrib.eager.Checkpoint": "Use tf.train.Checkpoint",
    "contrib.eager.Iterator": "Iterate over the dataset itself",
    "contrib.eager.Variable": "Use tf.Variable",
    "contrib.eager.defun": "Use tf.function",
    "contrib.eager.gradients_function": "Use tf.GradientTape",
    "contrib.eager.implicit_gradients": "Use tf.GradientTape",
    "contrib.eager.implicit_value_and_gradients": "Use tf.GradientTape",
    "contrib.eager.metrics": "Use tf.metrics in graphs, or sums of your own",
    "contrib.eager.num_gpus": "Use len(tf.config.experimental.list_physical_devices('GPU'))",
    "contrib.eager.py_func": "Use tf.py_function",
    "contrib.eager.value_and_gradients_function": "Use tf.GradientTape",
    "contrib.estimator": "Use tf.estimator (TensorFlow up to 2.15)",
    "contrib.factorization": "Use sklearn.cluster, or factorize with ops",
    "contrib.feature_column": "Use tf.feature_column",
    "contrib.ffmpeg": "Use tensorflow_io",
    "contrib.framework": _SLIM,
    "contrib.framework.add_arg_scope": _IN_SLIM,
    "contrib.framework.arg_scope": _IN_SLIM,
    "contrib.framework.argsort": "Use tf.argsort",
    "contrib.framework.assign_from_checkpoint_fn": _IN_SLIM,
    "contrib.framework.create_global_step": "Use tf.train.create_global_step",
    "contrib.framework.get_global_step": "Use tf.train.get_global_step",
    "contrib.framework.get_or_create_global_step": "Use tf.train.get_or_create_global_step",
    "contrib.framework.get_variables": _IN_SLIM,
    "contrib.framework.get_variables_to_restore": _IN_SLIM,
    "contrib.framework.init_from_checkpoint": "Use tf.train.init_from_checkpoint",
    "contrib.framework.is_tensor": "Use tf.is_tensor",
    "contrib.framework.list_variables": "Use tf.train.list_variables",
    "contrib.framework.load_checkpoint": "Use tf.train.load_checkpoint",
    "contrib.framework.load_variable": "Use tf.train.load_variable",
    "contrib.framework.nest": "Use tf.nest",
    "contrib.framework.sort": "Use tf.sort",
    "contrib.gan": "Use the package tensorflow_gan",
    "contrib.graph_editor": _NOTHING + " in TensorFlow; tf.import_graph_def has input_map=",
    "contrib.image": "Use tf.image",
    "contrib.image.rotate": "Use tf.raw_ops.ImageProjectiveTransformV2",
    "contrib.image.transform": "Use tf.raw_ops.ImageProjectiveTransformV2",
    "contrib.integrate": _PROBABILITY + ".math.ode",
    "contrib.keras": "Use tf.keras",
    "contrib.kfac": "Use the package kfac, or tf1xent.curvature for products and spectra",
    "contrib.layers": _SLIM + ": it has most of tf.contrib.layers",
    "contrib.layers.avg_pool2d": _IN_SLIM,
    "contrib.layers.batch_norm": _IN_SLIM,
    "contrib.layers.bias_add": _IN_SLIM,
    "contrib.layers.conv2d": _IN_SLIM + ", or tf.layers.conv2d, where the default is no relu",
    "contrib.layers.convolution2d": "Use tf_slim.conv2d, or tf.layers.conv2d without its relu",
    "contrib.layers.dropout": _IN_SLIM + ", or tf.layers.dropout(rate=1 - keep_prob)",
    "contrib.layers.embed_sequence": "Use tf.get_variable and tf.nn.embedding_lookup",
    "contrib.layers.embedding_column": "Use tf.feature_column.embedding_column",
    "contrib.layers.flatten": "Use tf.layers.flatten",
    "contrib.layers.fully_connected": (
        _IN_SLIM + ", or tf.layers.dense(activation=tf.nn.relu), where the default is no relu"
    ),
    "contrib.layers.instance_norm": _IN_SLIM,
    "contrib.layers.l1_regularizer": "Use lambda w: scale * tf.reduce_sum(tf.abs(w))",
    "contrib.layers.l2_regularizer": "Use lambda w: scale * tf.nn.l2_loss(w)",
    "contrib.layers.layer_norm": _IN_SLIM,
    "contrib.layers.linear": _IN_SLIM + ", or tf.layers.dense",
    "contrib.layers.max_pool2d": _IN_SLIM,
    "contrib.layers.one_hot_encoding": "Use tf.one_hot",
    "contrib.layers.optimize_loss": "Use tf.train.GradientDescentOptimizer(rate).minimize(loss)",
    "contrib.layers.real_valued_column": "Use tf.feature_column.numeric_column",
    "contrib.layers.relu": _IN_SLIM + ", or tf.layers.dense(activation=tf.nn.relu)",
    "contrib.layers.sparse_column_with_hash_bucket": (
        "Use tf.feature_column.categorical_column_with_hash_bucket"
    ),
    "contrib.layers.sparse_column_with_keys": (
        "Use tf.feature_column.categorical_column_with_vocabulary_list"
    ),
    "contrib.layers.variance_scaling_initializer": (
        "Use tf.variance_scaling_initializer(scale=2.0, mode='fan_in')"
    ),
    "contrib.layers.xavier_initializer": "Use tf.glorot_uniform_initializer()",
    "contrib.layers.xavier_initializer_conv2d": "Use tf.glorot_uniform_initializer()",
    "contrib.learn": (
        "Use tf.estimator (TensorFlow up to 2.15), or a dict of the words for learn.preprocessing"
    ),
    "contrib.learn.datasets": "Use tf.keras.datasets",
    "contrib.learn.preprocessing": "Use tf.lookup.StaticVocabularyTable, or a dict of the words",
    "contrib.legacy_seq2seq": _NOTHING + ". Use tf.nn.dynamic_rnn, or keep a copy",
    "contrib.legacy_seq2seq.sequence_loss": (
        "Stack the lists along axis 1 and use tf1xent.losses.sequence_loss"
    ),
    "contrib.legacy_seq2seq.sequence_loss_by_example": (
        "Stack the lists along axis 1 and use tf1xent.losses.sequence_loss with "
        "average_across_batch=False"
    ),
    "contrib.lite": "Use tf.lite",
    "contrib.lookup": "Use tf.lookup",
    "contrib.lookup.index_table_from_tensor": "Use tf.lookup.StaticVocabularyTable",
    "contrib.losses": "Use tf.losses" + _SWAPPED,
    "contrib.losses.absolute_difference": "Use tf.losses.{name}(labels, predictions)",
    "contrib.losses.add_loss": "Use tf.losses.{name}",
    "contrib.losses.compute_weighted_loss": "Use tf.losses.{name}",
    "contrib.losses.get_losses": "Use tf.losses.{name}",
    "contrib.losses.get_regularization_losses": "Use tf.losses.{name}",
    "contrib.losses.get_total_loss": "Use tf.losses.{name}",
    "contrib.losses.log_loss": "Use tf.losses.{name}(labels, predictions)",
    "contrib.losses.mean_squared_error": "Use tf.losses.{name}(labels, predictions)",
    "contrib.losses.metric_learning": _ADDONS + ". Keep a copy of the function",
    "contrib.losses.sigmoid_cross_entropy": "Use tf.losses.{name}" + _SWAPPED,
    "contrib.losses.softmax_cross_entropy": "Use tf.losses.{name}" + _SWAPPED,
    "contrib.losses.sparse_softmax_cross_entropy": "Use tf.losses.{name}" + _SWAPPED,
    "contrib.metrics": (
        "Use tf.metrics, and pass labels= and predictions= by name: their order is the other one"
    ),
    "contrib.metrics.accuracy": "Use tf.reduce_mean(tf.cast(tf.equal(a, b), tf.float32))",
    "contrib.metrics.streaming_accuracy": _METRIC,
    "contrib.metrics.streaming_auc": _METRIC,
    "contrib.metrics.streaming_mean": "Use tf.metrics.{name}",
    "contrib.metrics.streaming_mean_iou": _METRIC,
    "contrib.metrics.streaming_precision": _METRIC,
    "contrib.metrics.streaming_recall": _METRIC,
    "contrib.mixed_precision": "Use tf.train.experimental.enable_mixed_precision_graph_rewrite",
    "contrib.model_pruning": _OPTIMIZATION,
    "contrib.nn.deprecated_flipped_sigmoid_cross_entropy_with_logits": _FLIPPED,
    "contrib.nn.deprecated_flipped_softmax_cross_entropy_with_logits": _FLIPPED,
    "contrib.nn.deprecated_flipped_sparse_softmax_cross_entropy_with_logits": _FLIPPED,
    "contrib.opt": "Use the optimizers of tf.train",
    "contrib.opt.LazyAdamOptimizer": "Use tf.train.AdamOptimizer",
    "contrib.opt.NadamOptimizer": "Use tf.train.AdamOptimizer",
    "contrib.opt.ScipyOptimizerInterface": "Use scipy.optimize.minimize with session.run",
    "contrib.predictor": "Use tf.saved_model.load",
    "contrib.quantize": _OPTIMIZATION,
    "contrib.rnn": "Use tf.nn.rnn_cell and tf.nn.dynamic_rnn",
    "contrib.rnn.BasicLSTMCell": _CELL,
    "contrib.rnn.BasicRNNCell": _CELL,
    "contrib.rnn.DeviceWrapper": _CELL,
    "contrib.rnn.DropoutWrapper": _CELL,
    "contrib.rnn.GRUBlockCell": "Use tf.nn.rnn_cell.GRUCell",
    "contrib.rnn.GRUCell": _CELL,
    "contrib.rnn.LSTMBlockCell": "Use tf.nn.rnn_cell.LSTMCell",
    "contrib.rnn.LSTMBlockFusedCell": "Use tf.nn.rnn_cell.LSTMCell with tf.nn.dynamic_rnn",
    "contrib.rnn.LSTMCell": _CELL,
    "contrib.rnn.LSTMStateTuple": _CELL,
    "contrib.rnn.LayerNormBasicLSTMCell": _ADDONS + ". Use tf.nn.rnn_cell.LSTMCell",
    "contrib.rnn.MultiRNNCell": _CELL,
    "contrib.rnn.RNNCell": _CELL,
    "contrib.rnn.ResidualWrapper": _CELL,
    "contrib.rnn.static_bidirectional_rnn": "Use tf.nn.{name}",
    "contrib.rnn.static_rnn": "Use tf.nn.{name}",
    "contrib.rnn.stack_bidirectional_dynamic_rnn": "Use tf.nn.bidirectional_dynamic_rnn by layer",
    "contrib.saved_model": "Use tf.saved_model",
    "contrib.seq2seq": _ADDONS + ". Keep a copy of the decoder",
    "contrib.seq2seq.sequence_loss": "Use tf1xent.losses.sequence_loss",
    "contrib.signal": "Use tf.signal",
    "contrib.slim": _SLIM,
    "contrib.staging": "Use tf.data.experimental.prefetch_to_device",
    "contrib.stateless": "Use tf.random.stateless_normal and its like",
    "contrib.summary": "Use tf.summary in graphs, tf.compat.v2.summary in eager programs",
    "contrib.tensor_forest": _FORESTS,
    "contrib.tensorboard": "Use `from tensorboard.plugins import projector`",
    "contrib.tensorrt": "Use tensorflow.python.compiler.tensorrt",
    "contrib.tfprof": "Use tf.profiler",
    "contrib.tpu": "Use tf.tpu",
    "contrib.tpu.RunConfig": "Use tf.estimator.tpu.{name} (TensorFlow up to 2.15)",
    "contrib.tpu.TPUEstimator": "Use tf.estimator.tpu.{name} (TensorFlow up to 2.15)",
    "contrib.tpu.TPUEstimatorSpec": "Use tf.estimator.tpu.{name} (TensorFlow up to 2.15)",
    "contrib.training": _SLIM + ": it has tf_slim.training",
    "contrib.training.HParams": "Use types.SimpleNamespace(**values)",
    "contrib.training.bucket_by_sequence_length": "Use tf.data.experimental.{name}",
    "contrib.util.constant_value": "Use tf.get_static_value",
    "contrib.util.make_tensor_proto": "Use tf.make_tensor_proto",
    "contrib.util.make_ndarray": "Use tf.make_ndarray",
    "estimator": "Use TensorFlow up to 2.15, or tf.train.MonitoredTrainingSession",
    "examples": _NOTHING,
    "examples.tutorials.mnist": (
        "Keep a copy of input_data.py, or use tf.keras.datasets.mnist.load_data()"
    ),
    "keras": _KERAS_2,
    "layers": _KERAS_2,
    "models": "They are at https://github.com/tensorflow/models",
    "nn.rnn_cell": _KERAS_2,
}

# What the last part of a name has before what its replacement is called.
_PREFIXES = ("deprecated_flipped_", "streaming_")


def answer(name: str) -> str:
    """Returns why there is no ``tf.NAME`` and what to use instead, in one line; "" if no row says.

    >>> answer("contrib.rnn.GRUCell")
    'tf.contrib.rnn.GRUCell: TensorFlow 2.x has no tf.contrib. Use tf.nn.rnn_cell.GRUCell.'
    """
    parts = name.split(".")
    last = parts[-1]
    for prefix in _PREFIXES:
        last = last[len(prefix) :] if last.startswith(prefix) else last
    for end in range(len(parts), 0, -1):
        text = _REPLACEMENTS.get(".".join(parts[:end]))
        if text is not None:
            return f"tf.{name}: {_REASONS[parts[0]]}. {text.format(name=last)}."
    return ""
