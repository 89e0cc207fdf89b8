"""What the gradient registry does not say: which ops are constant piece by piece, and which not.

The registry has one entry, "not differentiable", for ops whose derivative is zero and for ops whose
derivative is only not implemented. The sets below tell them apart.
"""

from tf1xent.second_order.moments import STOP

# They ask for a shape or a state, not for values: not worth a line in a report.
WITHOUT_VALUES = frozenset(
    "Shape ShapeN Size Rank ZerosLike OnesLike VariableShape ConcatOffset BroadcastGradientArgs "
    "Assert IsVariableInitialized VarIsInitializedOp TensorArraySizeV3 TensorListLength "
    "TensorListElementShape Timestamp".split()
)

# Constant on purpose.
STOPS = frozenset([STOP])

# The derivative of their output is zero wherever it exists.
PIECEWISE_CONSTANT = frozenset(
    "ArgMax ArgMin Ceil Floor Round Rint Sign OneHot Equal NotEqual Greater GreaterEqual Less "
    "LessEqual ApproximateEqual FloorDiv TruncateDiv Bucketize InTopK InTopKV2 IsNan IsInf "
    "IsFinite Cast HistogramFixedWidth QuantizeV2 NonMaxSuppression NonMaxSuppressionV2 "
    "NonMaxSuppressionV3 NonMaxSuppressionV4 CTCGreedyDecoder CTCBeamSearchDecoder EditDistance "
    "Where Unique UniqueV2 SearchSorted LowerBound UpperBound NextAfter".split()
)

# Ops whose output has no derivative by anything: random numbers of a given shape, and the like.
WITHOUT_DERIVATIVE = WITHOUT_VALUES | STOPS | PIECEWISE_CONSTANT

# Registered as not differentiable, or without a gradient in some input, although the derivative is
# not zero. Op types whose names say that they are gradients are added by `leaves_out`.
_LEFT_OUT = frozenset(
    "EuclideanNorm HSVToRGB LinSpace ExtractGlimpse ExtractGlimpseV2 SparseConcat RandomCrop "
    "DrawBoundingBoxes XlaVariadicReduce TensorListConcatLists ReduceDataset "
    "ParameterizedTruncatedNormal Betainc Zeta Polygamma PyFunc PyFuncStateless".split()
)
_GRADIENT_NAMES = ("Grad", "GradV2", "GradV3", "Gradient", "Backprop", "BackpropV2")
# Handles, not values.
_HANDLES = ("TensorArrayGrad",)


def leaves_out(op_type: str) -> bool:
    """Whether "not differentiable" is wrong of an op type: its derivative is not zero."""
    if op_type in STOPS or op_type.startswith(_HANDLES):
        return False
    return op_type in _LEFT_OUT or op_type.endswith(_GRADIENT_NAMES)


# v1 control flow and its arrays, which hand on what they get: their gradients need no asking.
LOOP_ENTERS = frozenset(["Enter", "RefEnter"])
LOOP_EXITS = frozenset(["Exit", "RefExit"])
NEXT_ITERATIONS = frozenset(["NextIteration", "RefNextIteration"])
MERGES = frozenset(["Merge", "RefMerge"])
SWITCHES = frozenset(["Switch", "RefSwitch"])
V1_CONTROL_FLOW = LOOP_ENTERS | LOOP_EXITS | NEXT_ITERATIONS | MERGES | SWITCHES
TENSOR_ARRAYS = frozenset(
    "TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 "
    "TensorArrayConcatV3 TensorArraySplitV3".split()
)
