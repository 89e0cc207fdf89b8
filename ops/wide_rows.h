// Rows of many classes: a vector of classes at a time, in pieces of kPiece classes, and those in
// blocks, which stay in the first cache where they are swept over twice.
//
// Names are those of narrow_rows.h; wide_product.h has the Hessian-vector product. The sums keep a
// running largest logit m, and are brought to a larger one by one factor whenever a block has one.

#ifndef TF1XENT_WIDE_ROWS_H_
#define TF1XENT_WIDE_ROWS_H_

#include "narrow_rows.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

constexpr int kMostPieces = 64;  // of a row whose partial sums fit on the stack

template <typename T>
struct WideRows {
  typedef Precise<T> P;
  typedef Lanes<P> L;
  typedef Vector<P> V;
  typedef Integers<P> I;
  typedef typename L::Int Int;
  static constexpr int kLanes = L::kLanes;

  // --- Loops over a row, a vector at a time; the last one may be partly of nothing --------------

  // step(i, count) for the vector at i, of which `count` lanes count.
  template <typename Step>
  TF1XENT_INLINE void for_vectors(int64_t size, Step step) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) step(i, kLanes);
    if (i < size) step(i, int(size - i));
  }

  // Writes step(i, count), past the caches if the output streams: then vectors are those of aligned
  // memory, after the few entries before the first of them.
  template <typename Step>
  TF1XENT_INLINE void write_vectors(T* to, int64_t size, bool streams, Step step) {
    if (!streams) {
      for_vectors(size, [&](int64_t i, int count) { store_some(to + i, step(i, count), count); });
      return;
    }
    const int64_t to_aligned = -int64_t(reinterpret_cast<uintptr_t>(to) / sizeof(T)) & (kLanes - 1);
    const int64_t first = to_aligned < size ? to_aligned : size;
    if (first > 0) store_first(to, step(0, int(first)), int(first));
    int64_t i = first;
    for (; i + kLanes <= size; i += kLanes) stream(to + i, step(i, kLanes));
    if (i < size) store_first(to + i, step(i, int(size - i)), int(size - i));
  }

  // `vector` with `fill` in the lanes that do not count.
  TF1XENT_INLINE V filled(V vector, int count, P fill) {
    if (count == kLanes) return vector;
    return lane_numbers<P>() < Int(count) ? vector : splat<P>(fill);
  }

  TF1XENT_INLINE P largest(const T* x, int64_t size) {
    V a = splat<P>(-kInfinity), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
      a = larger(load(x + i), a);
      b = larger(load(x + i + kLanes), b);
      c = larger(load(x + i + 2 * kLanes), c);
      d = larger(load(x + i + 3 * kLanes), d);
    }
    for_vectors(size - i, [&](int64_t j, int count) {
      a = larger(filled(load_some(x + i + j, count), count, -kInfinity), a);
    });
    return largest_of_lanes<P>(larger(larger(a, b), larger(c, d)));
  }

  // Where the first entry equal to `value` is, or -1.
  TF1XENT_INLINE int64_t position_of(const T* x, int64_t size, P value) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      if (any_of<P>(load(x + i) == value)) break;
    for (; i < size; ++i)
      if (load_one(x + i) == value) return i;
    return -1;
  }

  // Sum of exp(x_j - m), and the largest entry on the way.
  TF1XENT_INLINE P exp_sum(const T* x, int64_t size, P m, P* largest) {
    V a = {}, b = {}, largest_a = splat<P>(-kInfinity), largest_b = largest_a;
    int64_t i = 0;
    for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
      const V entry_a = load(x + i), entry_b = load(x + i + kLanes);
      a += exponential<P>(entry_a - m);
      b += exponential<P>(entry_b - m);
      largest_a = larger(entry_a, largest_a);
      largest_b = larger(entry_b, largest_b);
    }
    for_vectors(size - i, [&](int64_t j, int count) {
      const V entry = filled(load_some(x + i + j, count), count, -kInfinity);
      a += exponential<P>(entry - m);
      largest_a = larger(entry, largest_a);
    });
    *largest = largest_of_lanes<P>(larger(largest_a, largest_b));
    return sum_of_lanes<P>(a + b);
  }

  // The same without the entry `own`. Its lane is blanked out: to sum what is before and what is
  // behind it apart would cost short rows more.
  TF1XENT_INLINE P exp_sum_without(const T* x, int64_t size, P m, int64_t own) {
    V sum = {};
    I positions = lane_numbers<P>();
    for_vectors(size, [&](int64_t i, int count) {
      const V e = exponential<P>(filled(load_some(x + i, count) - m, count, -kInfinity));
      sum += positions == Int(own) ? V{} : e;
      positions += Int(kLanes);
    });
    return sum_of_lanes<P>(sum);
  }

  // What a sum of exp(x_j - from) is to be multiplied with to be one of exp(x_j - to).
  TF1XENT_INLINE P change_of_largest(P from, P to) {
    return from == to ? P(1) : exponential_of<P>(from - to);
  }

  // Where all logits so far are -inf, differences are taken from 0 instead.
  TF1XENT_INLINE P reference(P m) { return m == P(-kInfinity) ? P(0) : m; }

  TF1XENT_INLINE int64_t piece_begin(int64_t piece) { return piece * kPiece; }
  TF1XENT_INLINE int64_t piece_end(const KernelArguments<T>& p, int64_t piece) {
    const int64_t end = (piece + 1) * kPiece;
    return end < p.num_classes ? end : p.num_classes;
  }

  // The form of a kernel: its stages, and whether exponentials are kept from one to the next.
  struct OneStage {
    static constexpr int kStages = 1;
    static constexpr bool kKeeps = false;
    static bool combine(const KernelArguments<T>&, int, int64_t, int64_t, Partial<T>*) { return true; }
  };

  // Rows one after another, each through the stages of a kernel.
  template <typename Q>
  static void rows(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t pieces = (p.num_classes + kPiece - 1) / kPiece;
    Partial<T> few[kMostPieces];
    Partial<T>* partials = few;
    if (pieces > kMostPieces)
      partials = static_cast<Partial<T>*>(__builtin_malloc(pieces * sizeof(Partial<T>)));
    P* kept = nullptr;
    if (Q::kKeeps && (p.streams || sizeof(P) != sizeof(T)))
      kept = static_cast<P*>(__builtin_malloc(p.num_classes * sizeof(P)));
    for (int64_t piece = 0; piece < pieces; ++piece) {
      partials[piece] = Partial<T>();
      partials[piece].kept = kept;
    }
    for (int64_t row = begin; row < end; ++row) {
      for (int stage = 0; stage < Q::kStages; ++stage) {
        for (int64_t piece = 0; piece < pieces; ++piece) Q::piece(p, stage, row, piece, partials);
        if (!Q::combine(p, stage, row, pieces, partials)) ++stage;
      }
    }
    __builtin_free(kept);
    if (partials != few) __builtin_free(partials);
  }

  // --- Sparse labels ----------------------------------------------------------------------------

  // A block is summed up from the largest logit so far, in one sweep that looks for a larger one; where
  // that is larger by more than this, the block is summed up again, from that.
  static constexpr P kNear = 16;

  struct SparseLoss : OneStage {
    // Makes `to` the largest logit, if it is.
    TF1XENT_INLINE void raise(P to, P* largest, P* sum) {
      if (!(to > *largest)) return;
      *sum *= change_of_largest(*largest, to);
      *largest = to;
    }

    static void piece(const KernelArguments<T>& p, int, int64_t row, int64_t number,
                      Partial<T>* partials) {
      const int64_t label = label_of(p.labels, row, p.num_classes);
      const T* x = p.logits + row * p.num_classes;
      P m = -kInfinity, s = 0;
      const int64_t end = piece_end(p, number);
      for (int64_t begin = piece_begin(number); begin < end; begin += kBlock) {
        const int64_t size = end - begin < kBlock ? end - begin : kBlock;
        const int64_t own = label - begin;
        const bool has_label = own >= 0 && own < size;
        P of_block;
        if (!has_label && m > P(-kInfinity)) {
          const P sum = exp_sum(x + begin, size, m, &of_block);
          if (of_block <= m + kNear) {
            s += sum;
            raise(of_block, &m, &s);
            continue;
          }
        }
        raise(largest(x + begin, size), &m, &s);
        s += has_label ? exp_sum_without(x + begin, size, reference(m), own)
                       : exp_sum(x + begin, size, reference(m), &of_block);
      }
      partials[number].largest = m;
      partials[number].sum = s;
    }

    static bool combine(const KernelArguments<T>& p, int, int64_t row, int64_t pieces,
                        Partial<T>* partials) {
      P m = partials[0].largest;
      for (int64_t i = 1; i < pieces; ++i)
        m = partials[i].largest > m ? partials[i].largest : m;
      P s = 0;
      for (int64_t i = 0; i < pieces; ++i)
        s += partials[i].sum * change_of_largest(partials[i].largest, m);
      const int64_t label = label_of(p.labels, row, p.num_classes);
      const P at_label = label >= 0 ? load_one(p.logits + row * p.num_classes + label) : P(kNaN);
      NarrowRows<T>::finish_sparse(p, row, 1, splat(m), splat(s), splat(at_label));
      return true;
    }
  };

  struct SparseGradient : OneStage {
    static void piece(const KernelArguments<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P* const statistics = p.statistics + row;
      const P m = statistics[0], s = statistics[p.rows];
      const P factor = p.scale[row] / statistics[2 * p.rows];
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      write_vectors(output, end - begin, p.streams, [&](int64_t i, int count) {
        return factor * exponential<P>(load_some(x + i, count) - m);
      });
      const int64_t label = label_of(p.labels, row, p.num_classes);
      if (label >= begin && label < end) store_one(output + label - begin, -factor * s);
      if (p.streams) finish_streaming();
    }
  };

  // --- Dense labels -----------------------------------------------------------------------------

  struct DenseLoss : OneStage {
    // Adds up a block; where the pivot is in it, its entry `own` is left out, but for its gap of 0.
    template <bool kHasPivot>
    TF1XENT_INLINE void add(const T* x, const T* l, int64_t size, P m, int64_t own,
                            Partial<T>& sums) {
      V s = {}, label_sum = {}, gap = {};
      I positions = lane_numbers<P>();
      for_vectors(size, [&](int64_t i, int count) {
        const V distance = m - filled(load_some(x + i, count), count, -kInfinity);
        const V label = load_some(l + i, count);  // 0 in lanes that do not count
        const V e = exponential<P>(-distance);
        const I is_own = positions == Int(own);
        s += kHasPivot ? (is_own ? V{} : e) : e;
        label_sum += kHasPivot ? (is_own ? V{} : label) : label;
        gap += label == P(0) ? V{} : label * distance;
        positions += Int(kLanes);
      });
      sums.sum += sum_of_lanes<P>(s);
      sums.label_sum += sum_of_lanes<P>(label_sum);
      sums.gap += sum_of_lanes<P>(gap);
    }

    // Takes the pivot of other sums, which is larger, for these; what was the pivot is one of many.
    TF1XENT_INLINE void change_pivot(Partial<T>& sums, P m) {
      if (sums.pivot >= 0) {
        sums.label_sum += sums.pivot_label;
        sums.gap += sums.label_sum * (m - sums.largest);
        sums.sum = (sums.sum + P(1)) * change_of_largest(sums.largest, m);
      }
      sums.largest = m;
    }

    static void piece(const KernelArguments<T>& p, int, int64_t row, int64_t number,
                      Partial<T>* partials) {
      const T* x = p.logits + row * p.num_classes;
      const T* l = p.distributions + row * p.num_classes;
      Partial<T> sums = {};
      sums.largest = -kInfinity;
      sums.pivot = -1;
      const int64_t end = piece_end(p, number);
      for (int64_t begin = piece_begin(number); begin < end; begin += kBlock) {
        const int64_t size = end - begin < kBlock ? end - begin : kBlock;
        const P of_block = largest(x + begin, size);
        int64_t own = -1;
        if (of_block > sums.largest) {
          own = position_of(x + begin, size, of_block);
          change_pivot(sums, of_block);
          sums.pivot = begin + own;
          sums.pivot_label = load_one(l + begin + own);
        }
        const P m = reference(sums.largest);
        if (own < 0)
          add<false>(x + begin, l + begin, size, m, own, sums);
        else
          add<true>(x + begin, l + begin, size, m, own, sums);
      }
      partials[number] = sums;
    }

    static bool combine(const KernelArguments<T>& p, int, int64_t row, int64_t pieces,
                        Partial<T>* partials) {
      Partial<T> all = partials[0];
      for (int64_t i = 1; i < pieces; ++i) {
        Partial<T> other = partials[i];
        if (other.largest > all.largest) {
          const Partial<T> smaller = all;
          all = other;
          other = smaller;
        }
        change_pivot(other, all.largest);
        all.sum += other.sum;
        all.label_sum += other.label_sum;
        all.gap += other.gap;
      }
      NarrowRows<T>::finish_dense(p, row, 1, splat(all.largest), splat(all.sum),
                                  splat(all.label_sum), splat(all.pivot_label), splat(all.gap));
      return true;
    }
  };

  struct DenseGradient : OneStage {
    static void piece(const KernelArguments<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P* const statistics = p.statistics + row;
      const P m = statistics[0], s = statistics[p.rows], label_sum = statistics[2 * p.rows];
      const P scale = p.scale[row], factor = label_sum / (1 + s);
      const V confident = splat<P>(s < 1 ? m : P(kNaN));  // equal to the pivot's logit alone
      const V at_pivot = splat<P>(scale * (statistics[3 * p.rows] - label_sum * (s / (1 + s))));
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      const T* l = p.distributions + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      write_vectors(output, end - begin, p.streams, [&](int64_t i, int count) -> V {
        const V entry = load_some(x + i, count);
        const V other =
            scale * (factor * exponential<P>(entry - m) - load_some(l + i, count));
        return entry == confident ? at_pivot : other;
      });
      if (p.streams) finish_streaming();
    }
  };

  struct LabelGradient : OneStage {
    static void piece(const KernelArguments<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P m = p.statistics[row], scale = p.scale[row];
      const P t = log1p_nonnegative<P>(splat(p.statistics[p.rows + row]))[0];
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      const T* l = p.distributions + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      write_vectors(output, end - begin, p.streams, [&](int64_t i, int count) -> V {
        const V entry = load_some(x + i, count);
        const I absent = (entry == P(-kInfinity)) & (load_some(l + i, count) == P(0));
        return absent ? V{} : scale * (t + (m - entry));
      });
      if (p.streams) finish_streaming();
    }
  };
};

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_WIDE_ROWS_H_
