// The kernels' arguments and signatures: plain types, shared by all levels.
//
// The same kernels are compiled once for each level of vector instructions, and a level exports a
// table of them. Neither this file nor what the levels include uses inline functions of the standard
// library. The linker keeps one copy of such a function, and that might be one with instructions that
// the processor lacks.

#ifndef TF1XENT_TABLE_H_
#define TF1XENT_TABLE_H_

#include <stdint.h>

namespace tf1xent {

// Numbers of 16 bits, as bits; computations with them are in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename T>
struct PreciseType {
  typedef float Type;
};
template <>
struct PreciseType<double> {
  typedef double Type;
};
template <typename T>
using Precise = typename PreciseType<T>::Type;

// Integer labels of either width.
struct Labels {
  const void* data;
  bool wide;  // int64, else int32
};

// Numbers that the loss keeps of each row for the gradient: a matrix with a row for each of these.
constexpr int kSparseStatistics = 3;  // m, s, Z
constexpr int kDenseStatistics = 4;   // m, s, S, S without the pivot's label

// Inputs and outputs of every kernel; each reads and writes what it needs. Matrices are
// [rows, num_classes], contiguous; the others have one number per row.
template <typename T>
struct KernelArguments {
  int64_t rows;
  int64_t num_classes;
  const T* logits;
  Labels labels;                  // sparse
  const T* distributions;         // dense labels
  const T* vectors;               // what the Hessian is multiplied with
  const Precise<T>* scale;        // cotangents of the losses
  const Precise<T>* statistics;   // of the loss, for the gradient
  Precise<T>* loss;               // results
  Precise<T>* statistics_out;
  T* output;  // a matrix; may be the same memory as that of logits, or of distributions
  bool streams;  // whether the output is memory of its own, and too large to stay in a cache
};

// A row of many classes is computed in pieces of this many classes. The pieces do not depend on the
// number of threads, so neither do the results. A piece is computed in blocks that stay in the first
// cache.
constexpr int64_t kPiece = 1 << 15;
constexpr int64_t kBlock = 1 << 11;
static_assert(kPiece % kBlock == 0, "a piece has whole blocks");

// Numbers of a piece of a row; after merging, of the whole row.
template <typename T>
struct Partial {
  Precise<T> largest;      // m
  int64_t pivot;           // where that is; below 0 where all logits are -inf or NaN
  Precise<T> sum;          // of exp(x_j - m), without the label's or the pivot's own for losses
  Precise<T> label_sum;    // of l_j, without the pivot's own for losses
  Precise<T> pivot_label;  // l at the pivot
  Precise<T> gap;          // of l_j (m - x_j)
  // Of the product:
  Precise<T> mean;        // of exp(x_j - m) (v_j - at_pivot)
  bool confident;         // whether the pivot has more than half of the probability
  Precise<T> at_pivot;    // v at the pivot if so, else 0
  Precise<T> factor;      // scale / sum
  Precise<T>* kept;       // room for exp(x_j - m) of the row beside the output; null: in the output
  Precise<T> largest_up_to[kPiece / kBlock];  // the largest logit up to each block of the piece
};

// One kernel. `rows` computes ranges of whole rows. For few rows of many classes the kernel runs in
// stages instead: in a stage the pieces of a row are computed in any order, each with one of the row's
// partials. Then `combine` merges the partials for the next stage, or writes the numbers per row, and
// says whether the next stage is needed.
template <typename T>
struct Kernel {
  void (*rows)(const KernelArguments<T>& arguments, int64_t begin, int64_t end);
  int stages;
  void (*piece)(const KernelArguments<T>& arguments, int stage, int64_t row, int64_t piece,
                Partial<T>* partials);
  bool (*combine)(const KernelArguments<T>& arguments, int stage, int64_t row, int64_t pieces,
                  Partial<T>* partials);
  bool keeps;               // whether exponentials are kept from stage to stage
  double cycles_per_class;  // a rough estimate, for the choice of threads
};

template <typename T>
struct Kernels {
  Kernel<T> sparse_loss;
  Kernel<T> sparse_gradient;
  Kernel<T> sparse_hessian_product;
  Kernel<T> dense_loss;
  Kernel<T> dense_gradient;
  Kernel<T> label_gradient;
  Kernel<T> dense_hessian_product;
};

struct KernelTable {
  const char* level;
  Kernels<float> of_float;
  Kernels<double> of_double;
  Kernels<Half> of_half;
  Kernels<BFloat16> of_bfloat16;
  // For tests: elementwise, on arrays.
  void (*exp_of_floats)(const float* x, int64_t size, float* result);
  void (*exp_of_doubles)(const double* x, int64_t size, double* result);
  void (*log1p_of_floats)(const float* x, int64_t size, float* result);
  void (*log1p_of_doubles)(const double* x, int64_t size, double* result);
};

inline const Kernels<float>& kernels(const KernelTable& table, const float*) {
  return table.of_float;
}
inline const Kernels<double>& kernels(const KernelTable& table, const double*) {
  return table.of_double;
}
inline const Kernels<Half>& kernels(const KernelTable& table, const Half*) { return table.of_half; }
inline const Kernels<BFloat16>& kernels(const KernelTable& table, const BFloat16*) {
  return table.of_bfloat16;
}

// The table of the best level that this processor has, chosen once. The environment variable
// TF1XENT_KERNEL_LEVEL (baseline, avx2, avx512) sets the highest level.
const KernelTable& best_table();

}  // namespace tf1xent

#endif  // TF1XENT_TABLE_H_
