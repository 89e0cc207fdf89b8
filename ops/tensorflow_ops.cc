// The ops' kernels for the CPU. This file and the two headers below are all that include TensorFlow.

#include <algorithm>
#include <string>

#include "cross_entropy_op.h"
#include "op_registrations.h"

namespace tf1xent {
namespace {

// The checks of the base class report failures to the context; Compute returns after the first.
#define TF1XENT_STOP_IF_FAILED(context) \
  if (!(context)->status().ok()) return

// An op that reads logits and labels; sparse ones have a policy for labels out of range.
template <typename Element, bool kSparse>
class LabelledOp : public CrossEntropyOp<Element> {
  typedef CrossEntropyOp<Element> Base;

 public:
  explicit LabelledOp(OpKernelConstruction* context) : Base(context) {
    if (kSparse) OP_REQUIRES_OK(context, context->GetAttr("invalid_labels", &invalid_labels_));
  }

 protected:
  void read_logits_and_labels(OpKernelContext* context,
                              KernelArguments<typename Base::T>* arguments) const {
    Base::read_logits(context, arguments);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::read_labels(context, invalid_labels_ == "raise", arguments);
    else
      Base::read_distributions(context, arguments);
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
    KernelArguments<typename Base::T> arguments = {};
    Base::read_logits_and_labels(context, &arguments);
    TF1XENT_STOP_IF_FAILED(context);
    const int kinds = kSparse ? kSparseStatistics : kDenseStatistics;
    arguments.loss = Base::new_rows(context, 0, 1);
    arguments.statistics_out = Base::new_rows(context, 1, kinds);
    TF1XENT_STOP_IF_FAILED(context);
    if (arguments.num_classes == 0) {  // then the loss is an empty sum
      std::fill_n(arguments.loss, arguments.rows, typename Base::P(0));
      std::fill_n(arguments.statistics_out, arguments.rows * kinds, typename Base::P(0));
      return;
    }
    Base::run(context, kSparse ? Base::all().sparse_loss : Base::all().dense_loss, arguments);
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
    KernelArguments<typename Base::T> arguments = {};
    Base::read_logits(context, &arguments);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::read_labels(context, false, &arguments);
    else
      Base::read_distributions(context, &arguments);
    arguments.scale = Base::read_rows(context, 2, "scale", 1);
    arguments.statistics = Base::read_rows(context, 3, "statistics",
                                         kSparse ? kSparseStatistics : kDenseStatistics);
    TF1XENT_STOP_IF_FAILED(context);
    if (kSparse)
      Base::new_matrix(context, std::initializer_list<int>{0}, &arguments);
    else
      Base::new_matrix(context, std::initializer_list<int>{0, 1}, &arguments);
    TF1XENT_STOP_IF_FAILED(context);
    const auto& all = Base::all();
    Base::run(context,
              kSparse                        ? all.sparse_gradient
              : kGradient == Gradient::kDense ? all.dense_gradient
                                             : all.label_gradient,
              arguments);
  }
};

template <typename Element, bool kSparse>
class HessianProductOp : public LabelledOp<Element, kSparse> {
  typedef LabelledOp<Element, kSparse> Base;

 public:
  explicit HessianProductOp(OpKernelConstruction* context) : Base(context) {}

  void Compute(OpKernelContext* context) override {
    KernelArguments<typename Base::T> arguments = {};
    Base::read_logits_and_labels(context, &arguments);
    arguments.vectors = Base::read_matrix(context, 2, "vectors");
    arguments.scale = Base::read_rows(context, 3, "scale", 1);
    TF1XENT_STOP_IF_FAILED(context);
    if (sizeof(typename Base::T) == sizeof(typename Base::P))  // keeps its exponentials there
      Base::new_matrix(context, std::initializer_list<int>{0}, &arguments);
    else
      Base::new_matrix(context, std::initializer_list<int>{0, 2}, &arguments);
    TF1XENT_STOP_IF_FAILED(context);
    const auto& all = Base::all();
    Base::run(context, kSparse ? all.sparse_hessian_product : all.dense_hessian_product, arguments);
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
