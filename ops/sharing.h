// Shares a quantity out over threads: rows, or pieces of rows where rows are few and long.

#ifndef TF1XENT_SHARING_H_
#define TF1XENT_SHARING_H_

#include <vector>

#include "table.h"

namespace tf1xent {

// parallel_for(total, cycles of one, function(begin, end)) runs the function over ranges that make
// up [0, total), on as many threads as that is worth, and returns when all are done.
template <typename T, typename ParallelFor>
void compute(const Quantity<T>& quantity, const Problem<T>& problem, int64_t rows, int threads,
             const ParallelFor& parallel_for) {
  const int64_t cycles_per_row = 50 + quantity.cycles_per_class * problem.num_classes;
  const int64_t pieces = (problem.num_classes + kPiece - 1) / kPiece;
  // Rows in one go keep the processor's caches warm from stage to stage. Pieces only where threads
  // would else be idle for a good part of the time.
  if (pieces < 2 || threads < 2 || rows >= 4 * threads) {
    parallel_for(rows, cycles_per_row,
                 [&](int64_t begin, int64_t end) { quantity.rows(problem, begin, end); });
    return;
  }
  std::vector<Partial<T>> partials(rows * pieces);
  for (int stage = 0; stage < quantity.stages; ++stage) {
    parallel_for(rows * pieces, cycles_per_row / pieces, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / pieces;
        quantity.piece(problem, stage, row, i % pieces, &partials[row * pieces]);
      }
    });
    for (int64_t row = 0; row < rows; ++row)
      quantity.combine(problem, stage, row, pieces, &partials[row * pieces]);
  }
}

}  // namespace tf1xent

#endif  // TF1XENT_SHARING_H_
