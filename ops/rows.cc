// The row mathematics for one level of vector instructions, TF1XENT_LEVEL: one object file each.

#include "wide_product.h"

#define TF1XENT_TEXT_(name) #name
#define TF1XENT_TEXT(name) TF1XENT_TEXT_(name)

namespace tf1xent {
namespace TF1XENT_LEVEL {

// Rows of at most so many classes are computed as narrow ones, by what was measured.
constexpr int kNarrowSparseLosses = kNarrow;
constexpr int kNarrowDenseLosses = kNarrow;
constexpr int kNarrowGradients = 16;
constexpr int kNarrowProducts = 96;

template <typename T, void (*kNarrowRows)(const KernelArguments<T>&, int64_t, int64_t), typename Wide,
          int kMostClasses>
void rows(const KernelArguments<T>& arguments, int64_t begin, int64_t end) {
  static_assert(kMostClasses <= kNarrow, "tiles have room for kNarrow classes");
  if (arguments.num_classes <= kMostClasses)
    kNarrowRows(arguments, begin, end);
  else
    WideRows<T>::template rows<Wide>(arguments, begin, end);
}

template <typename T, void (*kNarrowRows)(const KernelArguments<T>&, int64_t, int64_t), typename Wide,
          int kMostClasses>
Kernel<T> kernel(double cycles_per_vector) {
  return {rows<T, kNarrowRows, Wide, kMostClasses>, Wide::kStages, Wide::piece, Wide::combine,
          Wide::kKeeps, cycles_per_vector / Lanes<Precise<T>>::kLanes};
}

template <typename T>
Kernels<T> kernels() {
  typedef NarrowRows<T> N;
  typedef WideRows<T> W;
  return {
      kernel<T, N::sparse_loss, typename W::SparseLoss, kNarrowSparseLosses>(10),
      kernel<T, N::sparse_gradient, typename W::SparseGradient, kNarrowGradients>(10),
      kernel<T, N::sparse_hessian_product, WideHessianProduct<T, true>, kNarrowProducts>(17),
      kernel<T, N::dense_loss, typename W::DenseLoss, kNarrowDenseLosses>(14),
      kernel<T, N::dense_gradient, typename W::DenseGradient, kNarrowGradients>(11),
      kernel<T, N::label_gradient, typename W::LabelGradient, kNarrowGradients>(8),
      kernel<T, N::dense_hessian_product, WideHessianProduct<T, false>, kNarrowProducts>(18),
  };
}

template <typename P, Vector<P> (*kFunction)(Vector<P>)>
void apply(const P* x, int64_t size, P* result) {
  constexpr int kLanes = Lanes<P>::kLanes;
  for (int64_t i = 0; i < size; i += kLanes) {
    const int count = size - i < kLanes ? int(size - i) : kLanes;
    store_first(result + i, kFunction(load_first(x + i, count)), count);
  }
}

const KernelTable& table() {
  static const KernelTable table = {
      TF1XENT_TEXT(TF1XENT_LEVEL),
      kernels<float>(),
      kernels<double>(),
      kernels<Half>(),
      kernels<BFloat16>(),
      apply<float, exponential<float>>,
      apply<double, exponential<double>>,
      apply<float, log1p_nonnegative<float>>,
      apply<double, log1p_nonnegative<double>>,
  };
  return table;
}

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent
