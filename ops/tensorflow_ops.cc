// The ops: what TensorFlow sees of the kernels. The one file that includes TensorFlow.
//
// One source serves TensorFlow 1.13 to 2.21. Labels are read by their bytes, since the type of 64-bit
// integers changed its name; statuses are never named, since theirs did too.

#include <algorithm>
#include <string>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "sharing.h"

namespace tf1xent {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;
namespace errors = tensorflow::errors;

// --- Registrations ----------------------------------------------------------------------------------

// Inputs are logits [B, C]; labels, [B] or [B, C]; and others. The last of these shapes are merged.
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
    .TF1XENT_INVALID_LABELS  // for the derivative; what was computed of such labels is NaN already
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

// --- Kernels ----------------------------------------------------------------------------------------

// The row mathematics' own name of an element type.
template <typename Element>
struct RowType {
  typedef Element Type;
};
template <>
struct RowType<Eigen::half> {
  typedef Half Type;
};
template <>
struct RowType<tensorflow::bfloat16> {
  typedef BFloat16 Type;
};

template <typename T>
T* data_of(const Tensor& tensor) {
  return reinterpret_cast<T*>(const_cast<char*>(tensor.tensor_data().data()));
}

// Asks for large pages behind a large new tensor: a page fault for each 4 KiB would take longer than
// what is computed. Advice only; where it is not followed nothing is lost.
void advise_large_pages(const Tensor& tensor) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t kLargePage = 1 << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.tensor_data().data());
  const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t last = (begin + tensor.tensor_data().size()) / kLargePage * kLargePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Outputs of this size and up are written past the caches, which do not have room for them.
constexpr size_t kStreamedBytes = 1 << 25;

template <typename Element>
class CrossEntropyOp : public OpKernel {
 public:
  typedef typename RowType<Element>::Type T;
  typedef Precise<T> P;

  explicit CrossEntropyOp(OpKernelConstruction* context) : OpKernel(context) {
    tensorflow::DataType precise;
    OP_REQUIRES_OK(context, context->GetAttr("precise", &precise));
    OP_REQUIRES(context, precise == tensorflow::DataTypeToEnum<P>::value,
                errors::InvalidArgument(
                    "precise must be double for logits of double, and else float"));
  }

 protected:
  static const Quantities<T>& all() {
    return quantities(best_table(), static_cast<const T*>(nullptr));
  }

  // What all have in common, checked in the words of TensorFlow's own ops.
  static void read_logits(OpKernelContext* context, Problem<T>* problem) {
    const Tensor& logits = context->input(0);
    OP_REQUIRES(context, logits.dims() == 2,
                errors::InvalidArgument("logits must be 2-D, but got shape ",
                                        logits.shape().DebugString()));
    problem->logits = data_of<T>(logits);
    problem->rows = logits.dim_size(0);
    problem->num_classes = logits.dim_size(1);
  }

  static void read_labels(OpKernelContext* context, bool check_values, Problem<T>* problem) {
    const Tensor& logits = context->input(0);
    const Tensor& labels = context->input(1);
    OP_REQUIRES(context, logits.dim_size(1) > 0,
                errors::InvalidArgument("Must have at least one class, but got logits shape ",
                                        logits.shape().DebugString()));
    OP_REQUIRES(context, labels.dims() == 1,
                errors::InvalidArgument("labels must be 1-D, but got shape ",
                                        labels.shape().DebugString()));
    OP_REQUIRES(context, logits.dim_size(0) == labels.dim_size(0),
                errors::InvalidArgument(
                    "logits and labels must have the same first dimension, got logits shape ",
                    logits.shape().DebugString(), " and labels shape ",
                    labels.shape().DebugString()));
    problem->labels.data = labels.tensor_data().data();
    problem->labels.wide = labels.dtype() == tensorflow::DT_INT64;
    if (!check_values) return;
    const auto check = problem->labels.wide ? check_range<int64_t> : check_range<int32_t>;
    check(context, labels, problem->num_classes);
  }

  template <typename Label>
  static void check_range(OpKernelContext* context, const Tensor& labels, int64_t num_classes) {
    const Label* const begin = data_of<Label>(labels);
    const Label* const end = begin + labels.dim_size(0);
    const auto is_wrong = [&](int64_t label) { return uint64_t(label) >= uint64_t(num_classes); };
    bool any = false;  // all of them, without a branch for each
    for (const Label* label = begin; label < end; ++label) any |= is_wrong(*label);
    if (!any) return;
    const Label* const first = std::find_if(begin, end, is_wrong);
    context->CtxFailure(errors::InvalidArgument(
        "Received a label value of ", *first, " which is outside the valid range of [0, ",
        num_classes, ").  Label values: ", labels.SummarizeValue(labels.NumElements())));
  }

  static void read_distributions(OpKernelContext* context, Problem<T>* problem) {
    problem->distributions = read_matrix(context, 1, "labels");
  }

  static const T* read_matrix(OpKernelContext* context, int input, const char* name) {
    const Tensor& logits = context->input(0);
    const Tensor& matrix = context->input(input);
    if (matrix.shape() != logits.shape()) {
      context->CtxFailure(errors::InvalidArgument("logits and ", name,
                                                  " must be same size: logits_size=",
                                                  logits.shape().DebugString(), " ", name,
                                                  "_size=", matrix.shape().DebugString()));
    }
    return data_of<T>(matrix);
  }

  // Numbers by row: `kinds` of them.
  static const P* read_rows(OpKernelContext* context, int input, const char* name, int kinds) {
    const int64_t size = context->input(0).dim_size(0) * kinds;
    if (context->input(input).NumElements() != size) {
      context->CtxFailure(errors::InvalidArgument(
          name, " must have ", size, " numbers, ", kinds, " for each row of logits, got shape ",
          context->input(input).shape().DebugString()));
    }
    return data_of<P>(context->input(input));
  }

  static P* new_rows(OpKernelContext* context, int output, int kinds) {
    TensorShape shape;
    if (kinds > 1) shape.AddDim(kinds);
    shape.AddDim(context->input(0).dim_size(0));
    Tensor* tensor = nullptr;
    const auto status = context->allocate_output(output, shape, &tensor);
    if (!status.ok()) context->CtxFailure(status);
    return tensor == nullptr ? nullptr : data_of<P>(*tensor);
  }

  // A matrix for the result, in the place of one of the inputs named where nothing else needs it.
  template <typename Inputs>
  static void new_matrix(OpKernelContext* context, const Inputs& inputs, Problem<T>* problem) {
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output(
                                inputs, 0, context->input(0).shape(), &output));
    problem->output = data_of<T>(*output);
    bool is_new = true;
    for (int input : inputs) is_new = is_new && problem->output != data_of<T>(context->input(input));
    if (is_new) advise_large_pages(*output);
    problem->streams = is_new && output->TotalBytes() >= kStreamedBytes;
  }

  static void run(OpKernelContext* context, const Quantity<T>& quantity,
                  const Problem<T>& problem) {
    if (problem.rows == 0 || problem.num_classes == 0) return;
    const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
    const int threads = threads_for(quantity, problem, workers.num_threads);
    compute(quantity, problem, threads,
            [&](int64_t total, int64_t cycles, const std::function<void(int64_t, int64_t)>& work) {
              tensorflow::Shard(threads, workers.workers, total, cycles, work);
            });
  }
};

// The checks above return what they found to the context: nothing goes on after one that failed.
#define TF1XENT_STOP_IF_FAILED(context) \
  if (!(context)->status().ok()) return

// An op that reads its logits and labels, and what becomes of those that are out of range.
template <typename Element, bool kSparse>
class LabelledOp : public CrossEntropyOp<Element> {
  typedef CrossEntropyOp<Element> Base;

 public:
  explicit LabelledOp(OpKernelConstruction* context) : Base(context) {
    if (kSparse) OP_REQUIRES_OK(context, context->GetAttr("invalid_labels", &invalid_labels_));
  }

 protected:
  void read_logits_and_labels(OpKernelContext* context, Problem<typename Base::T>* problem) const {
    Base::read_logits(context, problem);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::read_labels(context, invalid_labels_ == "raise", problem);
    else
      Base::read_distributions(context, problem);
  }

 private:
  std::string invalid_labels_;
};

template <typename Element, bool kSparse>
class LossOp : public LabelledOp<Element, kSparse> {
  typedef LabelledOp<Element, kSparse> Base;

 public:
  explicit LossOp(OpKernelConstruction* context) : Base(context) {}

  void Compute(OpKernelContext* context) override {
    Problem<typename Base::T> problem = {};
    Base::read_logits_and_labels(context, &problem);
    TF1XENT_STOP_IF_FAILED(context);
    const int kinds = kSparse ? kSparseStatistics : kDenseStatistics;
    problem.loss = Base::new_rows(context, 0, 1);
    problem.statistics_out = Base::new_rows(context, 1, kinds);
    TF1XENT_STOP_IF_FAILED(context);
    if (problem.num_classes == 0) {  // then the loss is an empty sum
      std::fill_n(problem.loss, problem.rows, typename Base::P(0));
      std::fill_n(problem.statistics_out, problem.rows * kinds, typename Base::P(0));
      return;
    }
    Base::run(context, kSparse ? Base::all().sparse_loss : Base::all().dense_loss, problem);
  }
};

enum class Gradient { kSparse, kDense, kLabels };

template <typename Element, Gradient kGradient>
class GradientOp : public CrossEntropyOp<Element> {
  typedef CrossEntropyOp<Element> Base;
  static constexpr bool kSparse = kGradient == Gradient::kSparse;

 public:
  explicit GradientOp(OpKernelConstruction* context) : Base(context) {}

  void Compute(OpKernelContext* context) override {
    Problem<typename Base::T> problem = {};
    Base::read_logits(context, &problem);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::read_labels(context, false, &problem);
    else
      Base::read_distributions(context, &problem);
    problem.scale = Base::read_rows(context, 2, "scale", 1);
    problem.statistics = Base::read_rows(context, 3, "statistics",
                                         kSparse ? kSparseStatistics : kDenseStatistics);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::new_matrix(context, std::initializer_list<int>{0}, &problem);
    else
      Base::new_matrix(context, std::initializer_list<int>{0, 1}, &problem);
    TF1XENT_STOP_IF_FAILED(context);
    const auto& all = Base::all();
    Base::run(context,
              kSparse                        ? all.sparse_gradient
              : kGradient == Gradient::kDense ? all.dense_gradient
                                             : all.label_gradient,
              problem);
  }
};

template <typename Element, bool kSparse>
class HessianProductOp : public LabelledOp<Element, kSparse> {
  typedef LabelledOp<Element, kSparse> Base;

 public:
  explicit HessianProductOp(OpKernelConstruction* context) : Base(context) {}

  void Compute(OpKernelContext* context) override {
    Problem<typename Base::T> problem = {};
    Base::read_logits_and_labels(context, &problem);
    problem.vectors = Base::read_matrix(context, 2, "vectors");
    problem.scale = Base::read_rows(context, 3, "scale", 1);
    TF1XENT_STOP_IF_FAILED(context);
    if (sizeof(typename Base::T) == sizeof(typename Base::P))  // keeps its exponentials there
      Base::new_matrix(context, std::initializer_list<int>{0}, &problem);
    else
      Base::new_matrix(context, std::initializer_list<int>{0, 2}, &problem);
    TF1XENT_STOP_IF_FAILED(context);
    const auto& all = Base::all();
    Base::run(context, kSparse ? all.sparse_hessian_product : all.dense_hessian_product, problem);
  }
};

#define TF1XENT_REGISTER(name, element, ...)                                            \
  REGISTER_KERNEL_BUILDER(                                                              \
      Name(name).Device(tensorflow::DEVICE_CPU).TypeConstraint<element>("T"), __VA_ARGS__)

#define TF1XENT_REGISTER_ALL(element)                                                            \
  TF1XENT_REGISTER("Tf1xentKernelSparseLoss", element, LossOp<element, true>);                   \
  TF1XENT_REGISTER("Tf1xentKernelSparseGradient", element, GradientOp<element, Gradient::kSparse>); \
  TF1XENT_REGISTER("Tf1xentKernelSparseHessianProduct", element, HessianProductOp<element, true>); \
  TF1XENT_REGISTER("Tf1xentKernelDenseLoss", element, LossOp<element, false>);                   \
  TF1XENT_REGISTER("Tf1xentKernelDenseGradient", element, GradientOp<element, Gradient::kDense>); \
  TF1XENT_REGISTER("Tf1xentKernelLabelGradient", element, GradientOp<element, Gradient::kLabels>); \
  TF1XENT_REGISTER("Tf1xentKernelDenseHessianProduct", element, HessianProductOp<element, false>)

TF1XENT_REGISTER_ALL(Eigen::half);
TF1XENT_REGISTER_ALL(tensorflow::bfloat16);
TF1XENT_REGISTER_ALL(float);
TF1XENT_REGISTER_ALL(double);

}  // namespace
}  // namespace tf1xent
