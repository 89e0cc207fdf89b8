// What all ops have in common: reading and checking inputs, outputs, and running a kernel.
//
// One source serves TensorFlow 1.13 to 2.21. Labels are read by their bytes, because the type of 64-bit
// integers changed its name. Statuses are never named, because theirs changed too. Included once, by
// tensorflow_ops.cc.

#ifndef TF1XENT_CROSS_ENTROPY_OP_H_
#define TF1XENT_CROSS_ENTROPY_OP_H_

#include <algorithm>

#include "tensorflow/core/framework/op_kernel.h"
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
namespace errors = tensorflow::errors;

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

// Asks the system for large pages behind a large new tensor: a page fault for each 4 KiB would take
// longer than the computation. Only advice: nothing is lost if the system does not follow it.
void advise_large_pages(const Tensor& tensor) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t kLargePage = 1 << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(tensor.tensor_data().data());
  const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t last = (begin + tensor.tensor_data().size()) / kLargePage * kLargePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Outputs of at least this size are written past the caches, which have no room for them.
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
  static const Kernels<T>& all() {
    return kernels(best_table(), static_cast<const T*>(nullptr));
  }

  // Errors have the wording of TensorFlow's own ops.
  static void read_logits(OpKernelContext* context, KernelArguments<T>* arguments) {
    const Tensor& logits = context->input(0);
    OP_REQUIRES(context, logits.dims() == 2,
                errors::InvalidArgument("logits must be 2-D, but got shape ",
                                        logits.shape().DebugString()));
    arguments->logits = data_of<T>(logits);
    arguments->rows = logits.dim_size(0);
    arguments->num_classes = logits.dim_size(1);
  }

  static void read_labels(OpKernelContext* context, bool check_values, KernelArguments<T>* arguments) {
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
    arguments->labels.data = labels.tensor_data().data();
    arguments->labels.wide = labels.dtype() == tensorflow::DT_INT64;
    if (!check_values) return;
    const auto check = arguments->labels.wide ? check_range<int64_t> : check_range<int32_t>;
    check(context, labels, arguments->num_classes);
  }

  template <typename Label>
  static void check_range(OpKernelContext* context, const Tensor& labels, int64_t num_classes) {
    const Label* const begin = data_of<Label>(labels);
    const Label* const end = begin + labels.dim_size(0);
    const auto is_wrong = [&](int64_t label) { return uint64_t(label) >= uint64_t(num_classes); };
    bool any = false;  // over all labels, without a branch for each
    for (const Label* label = begin; label < end; ++label) any |= is_wrong(*label);
    if (!any) return;
    const Label* const first = std::find_if(begin, end, is_wrong);
    context->CtxFailure(errors::InvalidArgument(
        "Received a label value of ", *first, " which is outside the valid range of [0, ",
        num_classes, ").  Label values: ", labels.SummarizeValue(labels.NumElements())));
  }

  static void read_distributions(OpKernelContext* context, KernelArguments<T>* arguments) {
    arguments->distributions = read_matrix(context, 1, "labels");
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

  // `kinds` numbers for each row.
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

  // A matrix for the result: the memory of one of the given inputs if nothing else needs it, or new.
  template <typename Inputs>
  static void new_matrix(OpKernelContext* context, const Inputs& inputs,
                         KernelArguments<T>* arguments) {
    Tensor* output = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output(
                                inputs, 0, context->input(0).shape(), &output));
    arguments->output = data_of<T>(*output);
    bool is_new = true;
    for (int input : inputs) is_new = is_new && arguments->output != data_of<T>(context->input(input));
    if (is_new) advise_large_pages(*output);
    arguments->streams = is_new && output->TotalBytes() >= kStreamedBytes;
  }

  static void run(OpKernelContext* context, const Kernel<T>& kernel,
                  const KernelArguments<T>& arguments) {
    if (arguments.rows == 0 || arguments.num_classes == 0) return;
    const auto& workers = *context->device()->tensorflow_cpu_worker_threads();
    const int threads = threads_for(kernel, arguments, workers.num_threads);
    compute(kernel, arguments, threads,
            [&](int64_t total, int64_t cycles, const std::function<void(int64_t, int64_t)>& work) {
              tensorflow::Shard(threads, workers.workers, total, cycles, work);
            });
  }
};

}  // namespace
}  // namespace tf1xent

#endif  // TF1XENT_CROSS_ENTROPY_OP_H_
