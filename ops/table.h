// What the row mathematics computes, and on what: plain types, shared by all levels.
//
// The same functions are compiled once for each level of vector instructions; a table of them is
// what a level exports. Nothing here, and nothing that the levels include, has inline functions of
// the standard library: the linker keeps one copy of such a function, and it might be the one that
// only newer processors understand.

#ifndef TF1XENT_TABLE_H_
#define TF1XENT_TABLE_H_

#include <stdint.h>

namespace tf1xent {

// Numbers of 16 bits, by their bits; they are computed with in float.
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

// Numbers that the loss leaves behind for each row, for the gradient: a matrix of one of these rows.
constexpr int kSparseStatistics = 3;  // m, s, Z
constexpr int kDenseStatistics = 4;   // m, s, S, S without the pivot's label

// Inputs and outputs of every function; each reads and writes what it needs. Matrices are
// [rows, num_classes], with rows one after another; the others are by row.
template <typename T>
struct Problem {
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

// A row of many classes is computed in pieces of this many, always the same ones, so that results
// do not depend on the number of threads; and those in blocks that stay in the first cache.
constexpr int64_t kPiece = 1 << 15;
constexpr int64_t kBlock = 1 << 11;
static_assert(kPiece % kBlock == 0, "a piece has whole blocks");

// Numbers of a piece of a row, and after merging of the whole row.
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

// One quantity: for ranges of whole rows; or, for few rows of many classes, in stages. In a stage the
// pieces of a row may be computed in any order, each on its own of the row's partials; `combine`,
// after them, hands what they have in common to the next stage, or writes what is by row.
template <typename T>
struct Quantity {
  void (*rows)(const Problem<T>& problem, int64_t begin, int64_t end);
  int stages;
  void (*piece)(const Problem<T>& problem, int stage, int64_t row, int64_t piece,
                Partial<T>* partials);
  bool (*combine)(const Problem<T>& problem, int stage, int64_t row, int64_t pieces,
                  Partial<T>* partials);
  bool keeps;            // whether exponentials are kept from stage to stage
  double cycles_per_class;  // about; for the sharing out over threads
};

template <typename T>
struct Quantities {
  Quantity<T> sparse_loss;
  Quantity<T> sparse_gradient;
  Quantity<T> sparse_hessian_product;
  Quantity<T> dense_loss;
  Quantity<T> dense_gradient;
  Quantity<T> label_gradient;
  Quantity<T> dense_hessian_product;
};

struct Table {
  const char* level;
  Quantities<float> of_float;
  Quantities<double> of_double;
  Quantities<Half> of_half;
  Quantities<BFloat16> of_bfloat16;
  // For tests: elementwise, on arrays.
  void (*exp_of_floats)(const float* x, int64_t size, float* result);
  void (*exp_of_doubles)(const double* x, int64_t size, double* result);
  void (*log1p_of_floats)(const float* x, int64_t size, float* result);
  void (*log1p_of_doubles)(const double* x, int64_t size, double* result);
};

inline const Quantities<float>& quantities(const Table& table, const float*) {
  return table.of_float;
}
inline const Quantities<double>& quantities(const Table& table, const double*) {
  return table.of_double;
}
inline const Quantities<Half>& quantities(const Table& table, const Half*) { return table.of_half; }
inline const Quantities<BFloat16>& quantities(const Table& table, const BFloat16*) {
  return table.of_bfloat16;
}

// The table of the best level that this processor has; the environment variable
// TF1XENT_KERNEL_LEVEL (baseline, avx2, avx512) may lower it. Chosen once.
const Table& best_table();

}  // namespace tf1xent

#endif  // TF1XENT_TABLE_H_
