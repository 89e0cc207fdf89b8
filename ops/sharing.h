// Shares a quantity out over threads: rows, or pieces of rows where rows are few and long.

#ifndef TF1XENT_SHARING_H_
#define TF1XENT_SHARING_H_

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "table.h"

namespace tf1xent {

// About the cycles that a row takes.
template <typename T>
double cycles_per_row(const Quantity<T>& quantity, const Problem<T>& problem) {
  return 15 + quantity.cycles_per_class * problem.num_classes;
}

// How many of the threads that there are a problem is worth. To wake up another one takes a good part
// of the time that two would save of these cycles.
template <typename T>
int threads_for(const Quantity<T>& quantity, const Problem<T>& problem, int available) {
  constexpr double kWorthSharing = 5e5;
  return problem.rows * cycles_per_row(quantity, problem) < kWorthSharing ? 1 : available;
}

// work(begin, end) for ranges that make up [0, total), on as many threads as that is worth. Each
// thread takes the next range when it is done with one: none has to wait for another that wakes up
// late, or is slower. parallel_for(total, cycles of one, function(begin, end)) is TensorFlow's.
template <typename ParallelFor, typename Work>
void share(int64_t total, double cycles, int64_t range, int threads,
           const ParallelFor& parallel_for, const Work& work) {
  std::atomic<int64_t> next(0);
  parallel_for(threads, int64_t(cycles * total / threads), [&](int64_t, int64_t) {
    for (int64_t begin; (begin = next.fetch_add(range)) < total;)
      work(begin, std::min(begin + range, total));
  });
}

// Computes a quantity of all rows, and returns when all are done.
template <typename T, typename ParallelFor>
void compute(const Quantity<T>& quantity, const Problem<T>& problem, int threads,
             const ParallelFor& parallel_for) {
  constexpr int64_t kRanges = 16;  // for each thread
  constexpr int64_t kLanes = 16;   // of the widest vectors: narrow rows fill them
  const int64_t rows = problem.rows;
  const double cycles = cycles_per_row(quantity, problem);
  const int64_t pieces = (problem.num_classes + kPiece - 1) / kPiece;
  if (threads < 2) return quantity.rows(problem, 0, rows);
  // Rows in one go keep the processor's caches warm from stage to stage. Pieces only where threads
  // would else be idle for a good part of the time.
  if (pieces < 2 || rows >= 4 * threads) {
    int64_t range = (rows - 1) / (kRanges * threads) + 1;
    if (range > kLanes) range = (range + kLanes - 1) / kLanes * kLanes;
    share(rows, cycles, range, threads, parallel_for,
          [&](int64_t begin, int64_t end) { quantity.rows(problem, begin, end); });
    return;
  }
  std::vector<Partial<T>> partials(rows * pieces);
  std::unique_ptr<Precise<T>[]> kept;
  if (quantity.keeps && sizeof(T) != sizeof(Precise<T>)) {
    kept.reset(new Precise<T>[rows * problem.num_classes]);
    for (int64_t i = 0; i < rows * pieces; ++i)
      partials[i].kept = kept.get() + i / pieces * problem.num_classes;
  }
  for (int stage = 0; stage < quantity.stages; ++stage) {
    share(rows * pieces, cycles / pieces, 1, threads, parallel_for, [&](int64_t i, int64_t) {
      const int64_t row = i / pieces;
      quantity.piece(problem, stage, row, i % pieces, &partials[row * pieces]);
    });
    bool is_next_needed = false;
    for (int64_t row = 0; row < rows; ++row)
      is_next_needed |= quantity.combine(problem, stage, row, pieces, &partials[row * pieces]);
    if (!is_next_needed) ++stage;
  }
}

}  // namespace tf1xent

#endif  // TF1XENT_SHARING_H_
