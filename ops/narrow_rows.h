// Rows of few classes: as many rows at once as a vector has lanes, a row to a lane.
//
// The formulas are those of tf1xent/_softmax.py, whose names are used: m the largest logit, k the
// pivot where it is, s the sum of exp(x_j - m) without the label's or the pivot's own term, Z with
// it, S the sum of the labels.

#ifndef TF1XENT_NARROW_ROWS_H_
#define TF1XENT_NARROW_ROWS_H_

#include "functions.h"
#include "transposition.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

constexpr int kNarrow = 128;  // rows of at most this many classes are narrow

// The label of a row, or -1 where it is out of range.
TF1XENT_INLINE int64_t label_of(const Labels& labels, int64_t row, int64_t num_classes) {
  const int64_t label = labels.wide ? static_cast<const int64_t*>(labels.data)[row]
                                    : static_cast<const int32_t*>(labels.data)[row];
  return label < 0 || label >= num_classes ? -1 : label;
}

template <typename T>
struct NarrowRows {
  typedef Precise<T> P;
  typedef Lanes<P> L;
  typedef Vector<P> V;
  typedef Integers<P> I;
  typedef typename L::Int Int;
  static constexpr int kLanes = L::kLanes;

  // A matrix of a row to a lane, [num_classes, kLanes].
  struct Tile {
    P entries[kNarrow * kLanes];

    TF1XENT_INLINE V at(const Tile& tile, int64_t j) { return load(tile.entries + j * kLanes); }
    TF1XENT_INLINE void put(Tile& tile, int64_t j, V value) {
      store(tile.entries + j * kLanes, value);
    }
  };

  // Rows that are not there are zeros. A vector may hold the beginning of the next row behind the end
  // of its own: that comes to lie behind the tile's classes.
  static void load_tile(const T* rows, int count, int64_t num_classes, Tile& tile) {
    P block[kNarrow * kLanes];
    const P* const from = all_rows(rows, count * num_classes, kLanes * num_classes, block);
    const P* const end = from + kLanes * num_classes;
    for (int64_t j = 0; j < num_classes; j += kLanes) {
      V vectors[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        const P* const row = from + lane * num_classes + j;
        vectors[lane] = end - row < kLanes ? load_first(row, int(end - row)) : load(row);
      }
      transpose<P>(vectors);
      for (int lane = 0; lane < kLanes; ++lane) Tile::put(tile, j + lane, vectors[lane]);
    }
  }

  // The last classes first, and row after row: what a vector has behind the end of its row is
  // written over with what belongs there.
  static void store_tile(const Tile& tile, int count, int64_t num_classes, T* rows) {
    P block[kNarrow * kLanes];
    P* const to = place_of_all_rows(rows, count, block);
    P* const end = to + kLanes * num_classes;
    for (int64_t j = (num_classes - 1) / kLanes * kLanes; j >= 0; j -= kLanes) {
      V vectors[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) vectors[lane] = Tile::at(tile, j + lane);
      transpose<P>(vectors);
      for (int lane = 0; lane < kLanes; ++lane) {
        P* const row = to + lane * num_classes + j;
        if (end - row < kLanes)
          store_first(row, vectors[lane], int(end - row));
        else
          store(row, vectors[lane]);
      }
    }
    write_back(to, count * num_classes, rows);
  }

  // A tile's rows as numbers of P: where they are if that is what they are and all of them are
  // there, and else in the block, with zeros for those that are not there.
  TF1XENT_INLINE const P* all_rows(const P* rows, int64_t size, int64_t all, P* block) {
    return size == all ? rows : filled_block(rows, size, all, block);
  }
  template <typename S>
  TF1XENT_INLINE const P* all_rows(const S* rows, int64_t size, int64_t all, P* block) {
    return filled_block(rows, size, all, block);
  }
  static const P* filled_block(const T* rows, int64_t size, int64_t all, P* block) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) store(block + i, load(rows + i));
    if (i < size) store(block + i, load_first(rows + i, int(size - i)));
    for (i = size; i < all; ++i) block[i] = 0;
    return block;
  }

  TF1XENT_INLINE P* place_of_all_rows(P* rows, int count, P* block) {
    return count == kLanes ? rows : block;
  }
  template <typename S>
  TF1XENT_INLINE P* place_of_all_rows(S*, int, P* block) {
    return block;
  }
  TF1XENT_INLINE void write_back(const P* from, int64_t size, P* rows) {
    if (from != rows) copy_block(from, size, rows);
  }
  template <typename S>
  TF1XENT_INLINE void write_back(const P* from, int64_t size, S* rows) {
    copy_block(from, size, rows);
  }
  static void copy_block(const P* block, int64_t size, T* rows) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) store(rows + i, load(block + i));
    if (i < size) store_first(rows + i, load(block + i), int(size - i));
  }

  // The labels of the rows; -1 where one is out of range.
  static I load_labels(const Labels& labels, int64_t first, int count, int64_t num_classes) {
    Int lanes[kLanes] = {};
    if (count == kLanes)
      for (int lane = 0; lane < kLanes; ++lane)
        lanes[lane] = Int(label_of(labels, first + lane, num_classes));
    else
      for (int lane = 0; lane < count; ++lane)
        lanes[lane] = Int(label_of(labels, first + lane, num_classes));
    return load_integers<P>(lanes);
  }

  // The largest entries, and the classes where they are (the first of equal ones).
  TF1XENT_INLINE V pivots(const Tile& x, int64_t num_classes, I* classes) {
    V largest = Tile::at(x, 0);
    I pivot = {};
    for (int64_t j = 1; j < num_classes; ++j) {
      const V entry = Tile::at(x, j);
      pivot = entry > largest ? I{} + Int(j) : pivot;
      largest = entry > largest ? entry : largest;
    }
    *classes = pivot;
    return largest;
  }

  // A sum over the classes, in two levels: of many equal terms added one after another, the
  // roundings would all go one way.
  struct Sum {
    V total = {};
    V part = {};

    TF1XENT_INLINE void add(Sum& sum, V term) { sum.part += term; }
    TF1XENT_INLINE void close(Sum& sum) {
      sum.total += sum.part;
      sum.part = V{};
    }
  };

  // step(j) for every class, and close() behind a few of them.
  template <typename Step, typename Close>
  TF1XENT_INLINE void for_classes(int64_t num_classes, Step step, Close close) {
    constexpr int64_t kFew = 8;
    for (int64_t j = 0; j < num_classes;) {
      const int64_t end = j + kFew < num_classes ? j + kFew : num_classes;
      for (; j < end; ++j) step(j);
      close();
    }
  }

  template <typename Step>
  TF1XENT_INLINE void for_tiles(int64_t begin, int64_t end, Step step) {
    for (int64_t row = begin; row < end; row += kLanes)
      step(row, int(end - row < kLanes ? end - row : kLanes));
  }

  static void sparse_loss(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile x;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.logits + row * num_classes, count, num_classes, x);
      const I labels = load_labels(p.labels, row, count, num_classes);
      V m = Tile::at(x, 0);
      for (int64_t j = 1; j < num_classes; ++j) m = larger(Tile::at(x, j), m);
      Sum s;
      V at_label = splat<P>(kNaN);  // of no class: what is computed of it is NaN
      for_classes(
          num_classes,
          [&](int64_t j) {
            const V entry = Tile::at(x, j);
            const V e = exponential<P>(entry - m);
            const I own = labels == Int(j);
            at_label = own ? entry : at_label;
            Sum::add(s, own ? V{} : e);
          },
          [&] { Sum::close(s); });
      finish_sparse(p, row, count, m, s.total, at_label);
    });
  }

  // Loss and statistics of rows, a row to a lane.
  TF1XENT_INLINE void finish_sparse(const KernelArguments<T>& p, int64_t row, int count, V m, V s,
                                    V at_label) {
    const V own = exponential<P>(at_label - m);
    const V loss = (m - at_label) + log1p_nonnegative<P>(s + (own - P(1)));
    store_some(p.loss + row, loss, count);
    P* const statistics = p.statistics_out + row;
    store_some(statistics, m, count);
    store_some(statistics + p.rows, s, count);
    store_some(statistics + 2 * p.rows, s + own, count);
  }

  static void sparse_gradient(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile x;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.logits + row * num_classes, count, num_classes, x);
      const I labels = load_labels(p.labels, row, count, num_classes);
      const P* const statistics = p.statistics + row;
      const V m = load_some(statistics, count);
      const V s = load_some(statistics + p.rows, count);
      const V total = load_some(statistics + 2 * p.rows, count);
      const V factor = load_some(p.scale + row, count) / total;
      const V at_label = -factor * s;
      for (int64_t j = 0; j < num_classes; ++j) {
        const V other = factor * exponential<P>(Tile::at(x, j) - m);
        Tile::put(x, j, labels == Int(j) ? at_label : other);
      }
      store_tile(x, count, num_classes, p.output + row * num_classes);
    });
  }

  static void dense_loss(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile x, l;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.logits + row * num_classes, count, num_classes, x);
      load_tile(p.distributions + row * num_classes, count, num_classes, l);
      I pivot;
      const V m = pivots(x, num_classes, &pivot);
      Sum s, rest, gap;
      V at_pivot = {};
      for_classes(
          num_classes,
          [&](int64_t j) {
            const V distance = m - Tile::at(x, j);
            const V label = Tile::at(l, j);
            const V e = exponential<P>(-distance);
            const I own = pivot == Int(j);
            Sum::add(s, own ? V{} : e);
            Sum::add(rest, own ? V{} : label);
            at_pivot = own ? label : at_pivot;
            Sum::add(gap, label == P(0) ? V{} : label * distance);
          },
          [&] {
            Sum::close(s);
            Sum::close(rest);
            Sum::close(gap);
          });
      finish_dense(p, row, count, m, s.total, rest.total, at_pivot, gap.total);
    });
  }

  TF1XENT_INLINE void finish_dense(const KernelArguments<T>& p, int64_t row, int count, V m, V s,
                                   V rest,
                                   V at_pivot, V gap) {
    s += m - m;  // NaN where the largest logit is not finite
    const V label_sum = rest + at_pivot;
    store_some(p.loss + row, gap + label_sum * log1p_nonnegative<P>(s), count);
    P* const statistics = p.statistics_out + row;
    store_some(statistics, m, count);
    store_some(statistics + p.rows, s, count);
    store_some(statistics + 2 * p.rows, label_sum, count);
    store_some(statistics + 3 * p.rows, rest, count);
  }

  static void dense_gradient(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile x, l;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.logits + row * num_classes, count, num_classes, x);
      load_tile(p.distributions + row * num_classes, count, num_classes, l);
      const P* const statistics = p.statistics + row;
      const V m = load_some(statistics, count);
      const V s = load_some(statistics + p.rows, count);
      const V label_sum = load_some(statistics + 2 * p.rows, count);
      const V rest = load_some(statistics + 3 * p.rows, count);
      const V scale = load_some(p.scale + row, count);
      const V factor = label_sum / (P(1) + s);
      const V confident = s < P(1) ? m : splat<P>(kNaN);  // equal to the pivot's logit alone
      const V at_pivot = scale * (rest - label_sum * (s / (P(1) + s)));
      for (int64_t j = 0; j < num_classes; ++j) {
        const V entry = Tile::at(x, j);
        const V other = scale * (factor * exponential<P>(entry - m) - Tile::at(l, j));
        Tile::put(x, j, entry == confident ? at_pivot : other);
      }
      store_tile(x, count, num_classes, p.output + row * num_classes);
    });
  }

  static void label_gradient(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile x, l;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.logits + row * num_classes, count, num_classes, x);
      load_tile(p.distributions + row * num_classes, count, num_classes, l);
      const P* const statistics = p.statistics + row;
      const V m = load_some(statistics, count);
      const V s = load_some(statistics + p.rows, count);
      const V scale = load_some(p.scale + row, count);
      const V t = log1p_nonnegative<P>(s);
      for (int64_t j = 0; j < num_classes; ++j) {
        const V entry = Tile::at(x, j);
        const I absent = (entry == P(-kInfinity)) & (Tile::at(l, j) == P(0));
        Tile::put(x, j, absent ? V{} : scale * (t + (m - entry)));
      }
      store_tile(x, count, num_classes, p.output + row * num_classes);
    });
  }

  static void sparse_hessian_product(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    for_tiles(begin, end, [&](int64_t row, int count) {
      const I labels = load_labels(p.labels, row, count, p.num_classes);
      const V scale = load_some(p.scale + row, count);
      hessian_product(p, row, count, labels < Int(0) ? splat<P>(kNaN) : scale);
    });
  }

  static void dense_hessian_product(const KernelArguments<T>& p, int64_t begin, int64_t end) {
    const int64_t num_classes = p.num_classes;
    Tile l;
    for_tiles(begin, end, [&](int64_t row, int count) {
      load_tile(p.distributions + row * num_classes, count, num_classes, l);
      Sum label_sum;
      for_classes(
          num_classes, [&](int64_t j) { Sum::add(label_sum, Tile::at(l, j)); },
          [&] { Sum::close(label_sum); });
      hessian_product(p, row, count, label_sum.total * load_some(p.scale + row, count));
    });
  }

  static void hessian_product(const KernelArguments<T>& p, int64_t row, int count, V scale) {
    const int64_t num_classes = p.num_classes;
    Tile x, v;
    load_tile(p.logits + row * num_classes, count, num_classes, x);
    load_tile(p.vectors + row * num_classes, count, num_classes, v);
    I pivot;
    const V m = pivots(x, num_classes, &pivot);
    V at_pivot = {};
    for (int64_t j = 0; j < num_classes; ++j)
      at_pivot = pivot == Int(j) ? Tile::at(v, j) : at_pivot;
    Sum total, mean, mean_shifted;
    for_classes(
        num_classes,
        [&](int64_t j) {
          const V e = exponential<P>(Tile::at(x, j) - m);
          const V entry = Tile::at(v, j);
          Sum::add(total, e);
          Sum::add(mean, e * entry);
          Sum::add(mean_shifted, e * (entry - at_pivot));
          Tile::put(x, j, e);
        },
        [&] {
          Sum::close(total);
          Sum::close(mean);
          Sum::close(mean_shifted);
        });
    const I confident = total.total < P(2);
    const V shift = confident ? at_pivot : V{};
    const V centre = (confident ? mean_shifted.total : mean.total) / total.total;
    const V factor = scale / total.total;
    for (int64_t j = 0; j < num_classes; ++j)
      Tile::put(x, j, factor * (Tile::at(x, j) * ((Tile::at(v, j) - shift) - centre)));
    store_tile(x, count, num_classes, p.output + row * num_classes);
  }
};

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_NARROW_ROWS_H_
