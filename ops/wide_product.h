// The Hessian-vector product of rows of many classes. Names are those of wide_rows.h.

#ifndef TF1XENT_WIDE_PRODUCT_H_
#define TF1XENT_WIDE_PRODUCT_H_

#include "wide_rows.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

// First the pivot and the sums, block by block; then, where the pivot has more than half of the
// probability, the mean of the differences to the pivot's entry; then the entries. In between the
// output keeps the exponentials, each from the largest logit up to its block, also where it is the
// memory of the logits, which are of no use then; it may not be that of the vectors. Beside it they
// are kept for an output of 16 bits, which has no room for them and may be the memory of either, and
// for one that streams, so that they stay in the caches.
template <typename T, bool kSparse>
struct WideHessianProduct {
  typedef WideRows<T> W;
  typedef Precise<T> P;
  typedef Vector<P> V;
  static constexpr int kStages = 3;
  static constexpr bool kKeeps = true;

  static void piece(const KernelArguments<T>& p, int stage, int64_t row, int64_t number,
                    Partial<T>* partials) {
    const int64_t begin = W::piece_begin(number), size = W::piece_end(p, number) - begin;
    const int64_t offset = row * p.num_classes + begin;
    Partial<T>& partial = partials[number];
    const T* const v = p.vectors + offset;
    T* const output = p.output + offset;
    P* const kept = partial.kept ? partial.kept + begin : reinterpret_cast<P*>(output);
    if (stage == 0) {
      partial.largest = -kInfinity;
      partial.pivot = -1;
      partial.sum = partial.mean = partial.label_sum = 0;
      for_blocks(size, [&](int64_t block, int64_t i, int64_t n) {
        if (!kSparse) partial.label_sum += sum(p.distributions + offset + i, n);
        add_up(p.logits + offset + i, v + i, begin + i, n, block, partial, kept + i);
      });
    } else if (stage == 1) {
      if (!partial.confident) return;  // another row may be
      partial.mean = 0;
      for_blocks(size, [&](int64_t block, int64_t i, int64_t n) {
        partial.mean += sum_of_differences(kept + i, v + i, n, partial.at_pivot) *
                        W::change_of_largest(partial.largest_up_to[block], partial.largest);
      });
    } else {
      for (int64_t i = 0; i < size;) {
        const int64_t n = size_of_run(partial, i, size);
        write(kept + i, v + i, n, partial, partial.largest_up_to[i / kBlock], output + i);
        i += n;
      }
      if (p.streams) finish_streaming();
    }
  }

  template <typename Step>
  TF1XENT_INLINE void for_blocks(int64_t size, Step step) {
    for (int64_t i = 0; i < size; i += kBlock)
      step(i / kBlock, i, size - i < kBlock ? size - i : kBlock);
  }

  // How many entries, from the block at `begin` on, are kept with one and the same largest logit.
  TF1XENT_INLINE int64_t size_of_run(const Partial<T>& partial, int64_t begin, int64_t size) {
    int64_t end = begin + kBlock;
    while (end < size &&
           partial.largest_up_to[end / kBlock] == partial.largest_up_to[begin / kBlock])
      end += kBlock;
    return (end < size ? end : size) - begin;
  }

  TF1XENT_INLINE P sum(const T* l, int64_t size) {
    V sum = {};
    W::for_vectors(size, [&](int64_t i, int count) { sum += load_some(l + i, count); });
    return sum_of_lanes<P>(sum);
  }

  // Ask for the memory of a vector before it is needed, into the first cache or the second: while one
  // block is computed with, the next one comes in. Addresses behind the end do no harm.
  TF1XENT_INLINE void prefetch(const T* from) { __builtin_prefetch(from); }
  TF1XENT_INLINE void prefetch_to_second(const T* from) { __builtin_prefetch(from, 0, 2); }

  TF1XENT_INLINE void add_up(const T* x, const T* v, int64_t begin, int64_t size, int64_t block,
                             Partial<T>& partial, P* kept) {
    const P of_block = W::largest(x, size);
    if (of_block > partial.largest) {
      const P change = W::change_of_largest(partial.largest, of_block);
      partial.sum *= change;
      partial.mean *= change;
      partial.largest = of_block;
      partial.pivot = begin + W::position_of(x, size, of_block);
    }
    partial.largest_up_to[block] = partial.largest;
    const P m = W::reference(partial.largest);
    V sum = {}, mean = {};
    W::for_vectors(size, [&](int64_t i, int count) {
      // The distances are measured ones. The logits are needed a block ahead, for their largest.
      prefetch_to_second(x + i + 4 * kBlock);
      prefetch(x + i + kBlock);
      prefetch_to_second(v + i + 2 * kBlock);
      prefetch(v + i + 16 * W::kLanes);
      const V e = exponential<P>(W::filled(load_some(x + i, count) - m, count, -kInfinity));
      sum += e;
      mean += e * load_some(v + i, count);
      store_some(kept + i, e, count);
    });
    partial.sum += sum_of_lanes<P>(sum);
    partial.mean += sum_of_lanes<P>(mean);
  }

  TF1XENT_INLINE P sum_of_differences(const P* kept, const T* v, int64_t size, P at_pivot) {
    V sum = {};
    W::for_vectors(size, [&](int64_t i, int count) {
      sum += load_some(kept + i, count) * (load_some(v + i, count) - at_pivot);
    });
    return sum_of_lanes<P>(sum);
  }

  TF1XENT_INLINE void write(const P* kept, const T* v, int64_t size, const Partial<T>& partial,
                            P largest_up_to, T* output) {
    const P factor = partial.factor * W::change_of_largest(largest_up_to, partial.largest);
    const P shift = partial.at_pivot, centre = partial.mean;
    W::write_vectors(output, size, partial.kept != nullptr, [&](int64_t i, int count) {
      const V e = load_some(kept + i, count);
      return factor * (e * ((load_some(v + i, count) - shift) - centre));
    });
  }

  static bool combine(const KernelArguments<T>& p, int stage, int64_t row, int64_t pieces,
                      Partial<T>* partials) {
    Partial<T>& all = partials[0];
    if (stage == 0) {
      for (int64_t i = 1; i < pieces; ++i) add(all, partials[i]);
      const int64_t label = kSparse ? label_of(p.labels, row, p.num_classes) : 0;
      const P scale = kSparse ? p.scale[row] : p.scale[row] * all.label_sum;
      all.factor = (label >= 0 ? scale : P(kNaN)) / all.sum;
      all.confident = all.pivot >= 0 && all.sum < 2;
      all.mean /= all.sum;
      all.at_pivot =
          all.confident ? load_one(p.vectors + row * p.num_classes + all.pivot) : P(0);
    } else if (stage == 1 && all.confident) {
      for (int64_t i = 1; i < pieces; ++i) all.mean += partials[i].mean;
      all.mean /= all.sum;
    }
    for (int64_t i = 1; i < pieces; ++i) {
      partials[i].largest = all.largest;
      partials[i].sum = all.sum;
      partials[i].mean = all.mean;
      partials[i].at_pivot = all.at_pivot;
      partials[i].confident = all.confident;
      partials[i].factor = all.factor;
    }
    return stage > 0 || all.confident;
  }

  // Adds the sums of another piece, behind them, to these.
  TF1XENT_INLINE void add(Partial<T>& sums, const Partial<T>& other) {
    const bool is_larger = other.largest > sums.largest;
    const P m = is_larger ? other.largest : sums.largest;
    const P own_change = W::change_of_largest(sums.largest, m);
    const P change = W::change_of_largest(other.largest, m);
    sums.sum = sums.sum * own_change + other.sum * change;
    sums.mean = sums.mean * own_change + other.mean * change;
    sums.label_sum += other.label_sum;
    if (is_larger) sums.pivot = other.pivot;
    sums.largest = m;
  }
};

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_WIDE_PRODUCT_H_
