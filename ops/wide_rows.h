// Rows of many classes: a vector of classes at a time, in pieces of kPiece classes, and those in
// blocks that stay in the first cache between the search for their largest and their sums.
//
// Names are those of narrow_rows.h. The sums keep a running largest logit m, and are brought to a
// larger one by one factor whenever a block has one.

#ifndef TF1XENT_WIDE_ROWS_H_
#define TF1XENT_WIDE_ROWS_H_

#include "narrow_rows.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

constexpr int kBlock = 2048;
constexpr int kMostPieces = 64;  // of a row whose partial sums fit on the stack
static_assert(kPiece % kBlock == 0, "a piece has whole blocks");

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

  TF1XENT_INLINE V load_some(const T* from, int count) {
    return count == kLanes ? load(from) : load_first(from, count);
  }
  TF1XENT_INLINE void store_some(T* to, V vector, int count) {
    if (count == kLanes)
      store(to, vector);
    else
      store_first(to, vector, count);
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
      a = larger<P>(load(x + i), a);
      b = larger<P>(load(x + i + kLanes), b);
      c = larger<P>(load(x + i + 2 * kLanes), c);
      d = larger<P>(load(x + i + 3 * kLanes), d);
    }
    for_vectors(size - i, [&](int64_t j, int count) {
      a = larger<P>(filled(load_some(x + i + j, count), count, -kInfinity), a);
    });
    return largest_of_lanes<P>(larger<P>(larger<P>(a, b), larger<P>(c, d)));
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

  // Asks for the memory of a vector before it is needed: while one block is computed with, the next
  // one comes in. Addresses behind the end do no harm.
  TF1XENT_INLINE void prefetch(const T* from) { __builtin_prefetch(from); }

  // Sum of exp(x_j - m).
  TF1XENT_INLINE P exp_sum(const T* x, int64_t size, P m) {
    V a = {}, b = {};
    int64_t i = 0;
    for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
      prefetch(x + i + kBlock);
      prefetch(x + i + kBlock + kLanes);
      a += exp_nonpositive<P>(load(x + i) - m);
      b += exp_nonpositive<P>(load(x + i + kLanes) - m);
    }
    for_vectors(size - i, [&](int64_t j, int count) {
      a += exp_nonpositive<P>(filled(load_some(x + i + j, count) - m, count, -kInfinity));
    });
    return sum_of_lanes<P>(a + b);
  }

  // The same without the entry `own`. Its lane is blanked out: to sum what is before and what is
  // behind it apart would cost short rows more.
  TF1XENT_INLINE P exp_sum_without(const T* x, int64_t size, P m, int64_t own) {
    V sum = {};
    I positions = lane_numbers<P>();
    for_vectors(size, [&](int64_t i, int count) {
      const V e = exp_nonpositive<P>(filled(load_some(x + i, count) - m, count, -kInfinity));
      sum += positions == Int(own) ? V{} : e;
      positions += Int(kLanes);
    });
    return sum_of_lanes<P>(sum);
  }

  // What a sum of exp(x_j - from) is to be multiplied with to be one of exp(x_j - to).
  TF1XENT_INLINE P change_of_largest(P from, P to) {
    return from == to ? P(1) : exp_nonpositive_of<P>(from - to);
  }

  // Where all logits so far are -inf, differences are taken from 0 instead.
  TF1XENT_INLINE P reference(P m) { return m == P(-kInfinity) ? P(0) : m; }

  TF1XENT_INLINE int64_t piece_begin(int64_t piece) { return piece * kPiece; }
  TF1XENT_INLINE int64_t piece_end(const Problem<T>& p, int64_t piece) {
    const int64_t end = (piece + 1) * kPiece;
    return end < p.num_classes ? end : p.num_classes;
  }

  // All of a row, by the stages of a quantity.
  template <typename Q>
  TF1XENT_INLINE void by_pieces(const Problem<T>& p, int64_t row) {
    const int64_t pieces = (p.num_classes + kPiece - 1) / kPiece;
    Partial<T> few[kMostPieces];
    Partial<T>* partials = few;
    few[0] = Partial<T>();
    if (pieces > kMostPieces)
      partials = static_cast<Partial<T>*>(__builtin_malloc(pieces * sizeof(Partial<T>)));
    for (int stage = 0; stage < Q::kStages; ++stage) {
      for (int64_t piece = 0; piece < pieces; ++piece) Q::piece(p, stage, row, piece, partials);
      Q::combine(p, stage, row, pieces, partials);
    }
    if (partials != few) __builtin_free(partials);
  }

  template <typename Q>
  static void rows(const Problem<T>& p, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) by_pieces<Q>(p, row);
  }

  // --- Sparse labels ----------------------------------------------------------------------------

  struct SparseLoss {
    static constexpr int kStages = 1;

    static void piece(const Problem<T>& p, int, int64_t row, int64_t number,
                      Partial<T>* partials) {
      const int64_t label = label_of(p.labels, row, p.num_classes);
      const T* x = p.logits + row * p.num_classes;
      P m = -kInfinity, s = 0;
      const int64_t end = piece_end(p, number);
      for (int64_t begin = piece_begin(number); begin < end; begin += kBlock) {
        const int64_t size = end - begin < kBlock ? end - begin : kBlock;
        const P of_block = largest(x + begin, size);
        if (of_block > m) {
          s *= change_of_largest(m, of_block);
          m = of_block;
        }
        const int64_t own = label - begin;
        if (own < 0 || own >= size)
          s += exp_sum(x + begin, size, reference(m));
        else
          s += exp_sum_without(x + begin, size, reference(m), own);
      }
      partials[number].largest = m;
      partials[number].sum = s;
    }

    static void combine(const Problem<T>& p, int, int64_t row, int64_t pieces,
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
    }
  };

  struct SparseGradient {
    static constexpr int kStages = 1;

    static void piece(const Problem<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P* statistics = p.statistics + row * kSparseStatistics;
      const P m = statistics[0], factor = p.scale[row] / statistics[2];
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      for_vectors(end - begin, [&](int64_t i, int count) {
        store_some(output + i, factor * exp_nonpositive<P>(load_some(x + i, count) - m), count);
      });
      const int64_t label = label_of(p.labels, row, p.num_classes);
      if (label >= begin && label < end) store_one(output + label - begin, -factor * statistics[1]);
    }

    static void combine(const Problem<T>&, int, int64_t, int64_t, Partial<T>*) {}
  };

  // --- Dense labels -----------------------------------------------------------------------------

  struct DenseLoss {
    static constexpr int kStages = 1;

    // Adds up a block; where the pivot is in it, its entry `own` is left out, but for its gap of 0.
    template <bool kHasPivot>
    TF1XENT_INLINE void add(const T* x, const T* l, int64_t size, P m, int64_t own,
                            Partial<T>& sums) {
      V s = {}, label_sum = {}, gap = {};
      I positions = lane_numbers<P>();
      for_vectors(size, [&](int64_t i, int count) {
        const V distance = m - filled(load_some(x + i, count), count, -kInfinity);
        const V label = load_some(l + i, count);  // 0 in lanes that do not count
        const V e = exp_nonpositive<P>(-distance);
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

    static void piece(const Problem<T>& p, int, int64_t row, int64_t number,
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

    static void combine(const Problem<T>& p, int, int64_t row, int64_t pieces,
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
    }
  };

  struct DenseGradient {
    static constexpr int kStages = 1;

    static void piece(const Problem<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P* statistics = p.statistics + row * kDenseStatistics;
      const P m = statistics[0], s = statistics[1], label_sum = statistics[2];
      const P scale = p.scale[row], factor = label_sum / (1 + s);
      const V confident = splat<P>(s < 1 ? m : P(kNaN));  // equal to the pivot's logit alone
      const V at_pivot = splat<P>(scale * (statistics[3] - label_sum * (s / (1 + s))));
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      const T* l = p.distributions + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      for_vectors(end - begin, [&](int64_t i, int count) {
        const V entry = load_some(x + i, count);
        const V other =
            scale * (factor * exp_nonpositive<P>(entry - m) - load_some(l + i, count));
        store_some(output + i, entry == confident ? at_pivot : other, count);
      });
    }

    static void combine(const Problem<T>&, int, int64_t, int64_t, Partial<T>*) {}
  };

  struct LabelGradient {
    static constexpr int kStages = 1;

    static void piece(const Problem<T>& p, int, int64_t row, int64_t number, Partial<T>*) {
      const P* statistics = p.statistics + row * kDenseStatistics;
      const P m = statistics[0], scale = p.scale[row];
      const P t = log1p_nonnegative<P>(splat(statistics[1]))[0];
      const int64_t begin = piece_begin(number), end = piece_end(p, number);
      const T* x = p.logits + row * p.num_classes + begin;
      const T* l = p.distributions + row * p.num_classes + begin;
      T* output = p.output + row * p.num_classes + begin;
      for_vectors(end - begin, [&](int64_t i, int count) {
        const V entry = load_some(x + i, count);
        const I absent = (entry == P(-kInfinity)) & (load_some(l + i, count) == P(0));
        store_some(output + i, absent ? V{} : scale * (t + (m - entry)), count);
      });
    }

    static void combine(const Problem<T>&, int, int64_t, int64_t, Partial<T>*) {}
  };

  // --- Hessian-vector product -------------------------------------------------------------------

  // First the pivot, then the sums, then the entries. The output keeps the exponentials in between,
  // also where it is the memory of the logits, which are of no use then; it may not be that of the
  // vectors. Outputs of 16 bits cannot keep them: there they are computed again, entry by entry, and
  // the output may be the memory of either.
  template <bool kSparse>
  struct HessianProduct {
    static constexpr int kStages = 3;

    static void piece(const Problem<T>& p, int stage, int64_t row, int64_t number,
                      Partial<T>* partials) {
      const int64_t begin = piece_begin(number), size = piece_end(p, number) - begin;
      const int64_t offset = row * p.num_classes + begin;
      Partial<T>& partial = partials[number];
      if (stage == 0) {
        find_pivot(p.logits + offset, begin, size, partial);
        partial.label_sum = kSparse ? P(0) : label_sum(p.distributions + offset, size);
      } else if (stage == 1) {
        add_up(p.logits + offset, p.vectors + offset, size, partial, p.output + offset);
      } else {
        write(p.logits + offset, p.vectors + offset, size, partial, p.output + offset);
      }
    }

    TF1XENT_INLINE void find_pivot(const T* x, int64_t begin, int64_t size, Partial<T>& partial) {
      partial.largest = -kInfinity;
      int64_t block = 0;
      for (int64_t i = 0; i < size; i += kBlock) {
        const P of_block = largest(x + i, size - i < kBlock ? size - i : kBlock);
        if (of_block > partial.largest) {
          partial.largest = of_block;
          block = i;
        }
      }
      partial.pivot = begin + block + position_of(x + block, size - block, partial.largest);
    }

    TF1XENT_INLINE P label_sum(const T* l, int64_t size) {
      P all = 0;
      for (int64_t i = 0; i < size; i += kBlock) {
        V sum = {};
        for_vectors(size - i < kBlock ? size - i : kBlock,
                    [&](int64_t j, int count) { sum += load_some(l + i + j, count); });
        all += sum_of_lanes<P>(sum);
      }
      return all;
    }

    static constexpr bool kKeeps = sizeof(T) == sizeof(P);

    TF1XENT_INLINE void add_up(const T* x, const T* v, int64_t size, Partial<T>& partial,
                               T* output) {
      const P m = partial.largest, at_pivot = partial.at_pivot;
      partial.sum = partial.mean = partial.mean_shifted = 0;
      for (int64_t i = 0; i < size; i += kBlock) {
        V sum = {}, mean = {}, shifted = {};
        for_vectors(size - i < kBlock ? size - i : kBlock, [&](int64_t j, int count) {
          const V distance = load_some(x + i + j, count) - m;
          const V e = exp_nonpositive<P>(filled(distance, count, -kInfinity));
          const V entry = load_some(v + i + j, count);
          sum += e;
          mean += e * entry;
          shifted += e * (entry - at_pivot);
          if (kKeeps) store_some(output + i + j, e, count);
        });
        partial.sum += sum_of_lanes<P>(sum);
        partial.mean += sum_of_lanes<P>(mean);
        partial.mean_shifted += sum_of_lanes<P>(shifted);
      }
    }

    TF1XENT_INLINE void write(const T* x, const T* v, int64_t size, const Partial<T>& partial,
                              T* output) {
      const P m = partial.largest, factor = partial.sum;
      const P shift = partial.at_pivot, centre = partial.mean;
      for_vectors(size, [&](int64_t i, int count) {
        const V e = kKeeps ? load_some(output + i, count)
                           : exp_nonpositive<P>(load_some(x + i, count) - m);
        const V centred = (load_some(v + i, count) - shift) - centre;
        store_some(output + i, factor * (e * centred), count);
      });
    }

    static void combine(const Problem<T>& p, int stage, int64_t row, int64_t pieces,
                        Partial<T>* partials) {
      if (stage == 2) return;
      Partial<T> all = partials[0];
      for (int64_t i = 1; i < pieces; ++i) {
        if (stage == 0 && partials[i].largest > all.largest) {
          all.largest = partials[i].largest;
          all.pivot = partials[i].pivot;
        }
        if (stage == 0) all.label_sum += partials[i].label_sum;
        if (stage == 1) {
          all.sum += partials[i].sum;
          all.mean += partials[i].mean;
          all.mean_shifted += partials[i].mean_shifted;
        }
      }
      if (stage == 0) {
        all.at_pivot = all.pivot < 0 ? P(kNaN) : load_one(p.vectors + row * p.num_classes + all.pivot);
      } else {
        const bool confident = all.sum < 2;
        const int64_t label = kSparse ? label_of(p.labels, row, p.num_classes) : 0;
        const P scale = kSparse ? p.scale[row] : p.scale[row] * all.label_sum;
        all.mean = (confident ? all.mean_shifted : all.mean) / all.sum;
        all.at_pivot = confident ? all.at_pivot : P(0);
        all.sum = (label >= 0 ? scale : P(kNaN)) / all.sum;
      }
      for (int64_t i = 0; i < pieces; ++i) partials[i] = all;
    }
  };
};

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_WIDE_ROWS_H_
