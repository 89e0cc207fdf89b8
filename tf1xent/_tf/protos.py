"""Protocol buffers of TensorFlow that tf.compat.v1 does not name."""

from tensorflow.core.framework import function_pb2, variable_pb2
from tensorflow.core.protobuf import control_flow_pb2, saved_model_pb2
from tensorflow.python.training import checkpoint_state_pb2

FunctionDef = function_pb2.FunctionDef
SavedModel = saved_model_pb2.SavedModel
# What the file `checkpoint` of a folder of checkpoints holds, as text.
CheckpointState = checkpoint_state_pb2.CheckpointState
# What the collections of variables hold.
VariableDef = variable_pb2.VariableDef
# By the collection of a MetaGraphDef that holds them: what v1 branches and loops were made of.
CONTROL_FLOW_CONTEXTS = {
    "cond_context": control_flow_pb2.CondContextDef,
    "while_context": control_flow_pb2.WhileContextDef,
}
