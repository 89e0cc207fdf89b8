// Distributes a kernel over threads: rows, or pieces of rows where rows are few and long.

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
double cycles_per_row(const Kernel<T>& kernel, const KernelArguments<T>& arguments) {
  return 15 + kernel.cycles_per_class * arguments.num_classes;
}

// How many of the available threads to use. Waking up a second thread takes a good part of the time
// that it would save of these cycles.
template <typename T>
int threads_for(const Kernel<T>& kernel, const KernelArguments<T>& arguments, int available) {
  constexpr double kWorthSharing = 5e5;
  return arguments.rows * cycles_per_row(kernel, arguments) < kWorthSharing ? 1 : available;
}

// Calls work(begin, end) for ranges that make up [0, total), on `threads` threads. Each thread takes
// the next range when it has finished one, so none waits for another that wakes up late or is slower.
// parallel_for(total, cycles of one, function(begin, end)) is TensorFlow's.
template <typename ParallelFor, typename Work>
void share(int64_t total, double cycles, int64_t range, int threads,
           const ParallelFor& parallel_for, const Work& work) {
  std::atomic<int64_t> next(0);
  parallel_for(threads, int64_t(cycles * total / threads), [&](int64_t, int64_t) {
    for (int64_t begin; (begin = next.fetch_add(range)) < total;)
      work(begin, std::min(begin + range, total));
  });
}

// Runs a kernel on all rows, and returns when all are done.
template <typename T, typename ParallelFor>
void compute(const Kernel<T>& kernel, const KernelArguments<T>& arguments, int threads,
             const ParallelFor& parallel_for) {
  constexpr int64_t kRanges = 16;  // for each thread
  constexpr int64_t kLanes = 16;   // of the widest vectors: narrow rows fill them
  const int64_t rows = arguments.rows;
  const double cycles = cycles_per_row(kernel, arguments);
  const int64_t pieces = (arguments.num_classes + kPiece - 1) / kPiece;
  if (threads < 2) return kernel.rows(arguments, 0, rows);
  // A whole row in one go keeps the processor's caches warm from stage to stage. Rows are cut into
  // pieces only if threads would otherwise be idle for a good part of the time.
  if (pieces < 2 || rows >= 4 * threads) {
    int64_t range = (rows - 1) / (kRanges * threads) + 1;
    if (range > kLanes) range = (range + kLanes - 1) / kLanes * kLanes;
    share(rows, cycles, range, threads, parallel_for,
          [&](int64_t begin, int64_t end) { kernel.rows(arguments, begin, end); });
    return;
  }
  std::vector<Partial<T>> partials(rows * pieces);
  std::unique_ptr<Precise<T>[]> kept;
  if (kernel.keeps && sizeof(T) != sizeof(Precise<T>)) {
    kept.reset(new Precise<T>[rows * arguments.num_classes]);
    for (int64_t i = 0; i < rows * pieces; ++i)
      partials[i].kept = kept.get() + i / pieces * arguments.num_classes;
  }
  for (int stage = 0; stage < kernel.stages; ++stage) {
    share(rows * pieces, cycles / pieces, 1, threads, parallel_for, [&](int64_t i, int64_t) {
      const int64_t row = i / pieces;
      kernel.piece(arguments, stage, row, i % pieces, &partials[row * pieces]);
    });
    bool is_next_needed = false;
    for (int64_t row = 0; row < rows; ++row)
      is_next_needed |= kernel.combine(arguments, stage, row, pieces, &partials[row * pieces]);
    if (!is_next_needed) ++stage;
  }
}

}  // namespace tf1xent

#endif  // TF1XENT_SHARING_H_
