// The ops as TensorFlow sees them: their inputs, outputs, attributes and shapes.
//
// tf1xent/graphs/kernel_ops.py says the same in Python, and tf1xent/kernels/op_names.py has the names.
// Included once, by tensorflow_ops.cc.

#ifndef TF1XENT_OP_REGISTRATIONS_H_
#define TF1XENT_OP_REGISTRATIONS_H_

#include "table.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf1xent {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Merges the shapes of the first two inputs: logits, [B, C], and labels, [B] or [B, C].
template <int kLabelRank>
auto merge_logits_and_labels(InferenceContext* c, ShapeHandle* logits, ShapeHandle* rows)
    -> decltype(c->WithRank(ShapeHandle(), 0, logits)) {
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, logits));
  ShapeHandle labels;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), kLabelRank, &labels));
  DimensionHandle batch_size;
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(*logits, 0), c->Dim(labels, 0), &batch_size));
  TF_RETURN_IF_ERROR(c->ReplaceDim(*logits, 0, batch_size, logits));
  *rows = c->Vector(batch_size);
  return kLabelRank == 2 ? c->Merge(*logits, labels, logits) : c->Merge(*rows, labels, rows);
}

template <int kLabelRank, int kStatistics>
auto loss_shapes(InferenceContext* c) -> decltype(c->WithRank(ShapeHandle(), 0, nullptr)) {
  ShapeHandle logits, rows;
  auto merged = merge_logits_and_labels<kLabelRank>(c, &logits, &rows);
  if (!merged.ok()) return merged;
  c->set_output(0, rows);
  c->set_output(1, c->Matrix(kStatistics, c->Dim(rows, 0)));
  return merged;
}

template <int kLabelRank>
auto matrix_shape(InferenceContext* c) -> decltype(c->WithRank(ShapeHandle(), 0, nullptr)) {
  ShapeHandle logits, rows;
  auto merged = merge_logits_and_labels<kLabelRank>(c, &logits, &rows);
  if (merged.ok()) c->set_output(0, logits);
  return merged;
}

#define TF1XENT_TYPES                          \
  Attr("T: {half, bfloat16, float, double}") \
      .Attr("precise: {float, double}")
#define TF1XENT_LABEL_TYPE Attr("labels_type: {int32, int64}")
#define TF1XENT_INVALID_LABELS Attr("invalid_labels: {'raise', 'nan'} = 'raise'")

REGISTER_OP("Tf1xentKernelSparseLoss")
    .Input("logits: T")
    .Input("labels: labels_type")
    .Output("loss: precise")
    .Output("statistics: precise")
    .TF1XENT_TYPES.TF1XENT_LABEL_TYPE.TF1XENT_INVALID_LABELS
    .SetShapeFn(loss_shapes<1, kSparseStatistics>);

REGISTER_OP("Tf1xentKernelSparseGradient")
    .Input("logits: T")
    .Input("labels: labels_type")
    .Input("scale: precise")
    .Input("statistics: precise")
    .Output("gradient: T")
    .TF1XENT_TYPES.TF1XENT_LABEL_TYPE
    .TF1XENT_INVALID_LABELS  // for the derivative; the statistics of such labels are NaN already
    .SetShapeFn(matrix_shape<1>);

REGISTER_OP("Tf1xentKernelSparseHessianProduct")
    .Input("logits: T")
    .Input("labels: labels_type")
    .Input("vectors: T")
    .Input("scale: precise")
    .Output("product: T")
    .TF1XENT_TYPES.TF1XENT_LABEL_TYPE.TF1XENT_INVALID_LABELS.SetShapeFn(matrix_shape<1>);

REGISTER_OP("Tf1xentKernelDenseLoss")
    .Input("logits: T")
    .Input("labels: T")
    .Output("loss: precise")
    .Output("statistics: precise")
    .TF1XENT_TYPES.SetShapeFn(loss_shapes<2, kDenseStatistics>);

REGISTER_OP("Tf1xentKernelDenseGradient")
    .Input("logits: T")
    .Input("labels: T")
    .Input("scale: precise")
    .Input("statistics: precise")
    .Output("gradient: T")
    .TF1XENT_TYPES.SetShapeFn(matrix_shape<2>);

REGISTER_OP("Tf1xentKernelLabelGradient")
    .Input("logits: T")
    .Input("labels: T")
    .Input("scale: precise")
    .Input("statistics: precise")
    .Output("gradient: T")
    .TF1XENT_TYPES.SetShapeFn(matrix_shape<2>);

REGISTER_OP("Tf1xentKernelDenseHessianProduct")
    .Input("logits: T")
    .Input("labels: T")
    .Input("vectors: T")
    .Input("scale: precise")
    .Output("product: T")
    .TF1XENT_TYPES.SetShapeFn(matrix_shape<2>);

}  // namespace
}  // namespace tf1xent

#endif  // TF1XENT_OP_REGISTRATIONS_H_
