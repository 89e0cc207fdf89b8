"""The names of the native library's ops: the one list of them in Python.

The C++ sources register exactly these; a test compares. Saved graphs carry the names.
"""

SPARSE_LOSS = "Tf1xentKernelSparseLoss"
SPARSE_GRADIENT = "Tf1xentKernelSparseGradient"
SPARSE_HESSIAN_PRODUCT = "Tf1xentKernelSparseHessianProduct"
DENSE_LOSS = "Tf1xentKernelDenseLoss"
DENSE_GRADIENT = "Tf1xentKernelDenseGradient"
LABEL_GRADIENT = "Tf1xentKernelLabelGradient"
DENSE_HESSIAN_PRODUCT = "Tf1xentKernelDenseHessianProduct"

SPARSE_OPS = (SPARSE_LOSS, SPARSE_GRADIENT, SPARSE_HESSIAN_PRODUCT)
DENSE_OPS = (DENSE_LOSS, DENSE_GRADIENT, LABEL_GRADIENT, DENSE_HESSIAN_PRODUCT)
OP_NAMES = (*SPARSE_OPS, *DENSE_OPS)
