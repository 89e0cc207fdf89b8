// Transposition of as many vectors as a vector has lanes, in registers.

#ifndef TF1XENT_TRANSPOSITION_H_
#define TF1XENT_TRANSPOSITION_H_

#include "vectors.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

// A list of numbers, for the compiler to write something out for each of them.
template <int... kNumbers>
struct List {};
template <int kSize, int... kNumbers>
struct ListUpTo : ListUpTo<kSize - 1, kSize - 1, kNumbers...> {};
template <int... kNumbers>
struct ListUpTo<0, kNumbers...> {
  typedef List<kNumbers...> Type;
};

// The lanes of a and of b by their numbers, those of b after those of a.
template <typename P, int... kChosen>
TF1XENT_INLINE Vector<P> lanes_of(Vector<P> a, Vector<P> b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kChosen...);
#else
  return __builtin_shuffle(a, b, Integers<P>{kChosen...});
#endif
}

// Square blocks of kStep lanes and kStep rows, of which two rows have two each: the block of a that
// is right of the diagonal and the one of b that is left of it change places.
template <typename P, int kStep, int... kLane>
TF1XENT_INLINE void exchange_blocks(Vector<P>& a, Vector<P>& b, List<kLane...>) {
  constexpr int kLanes = Lanes<P>::kLanes;
  const Vector<P> left = lanes_of<P, (kLane & kStep ? kLane - kStep + kLanes : kLane)...>(a, b);
  b = lanes_of<P, (kLane & kStep ? kLane + kLanes : kLane + kStep)...>(a, b);
  a = left;
}

template <typename P, int kStep, int... kPair>
TF1XENT_INLINE void exchange_all_blocks(Vector<P>* rows, List<kPair...>) {
  typedef typename ListUpTo<Lanes<P>::kLanes>::Type EveryLane;
  const int done[] = {(exchange_blocks<P, kStep>(rows[kPair + kPair / kStep * kStep],
                                                 rows[kPair + kPair / kStep * kStep + kStep],
                                                 EveryLane()),
                       0)...};
  (void)done;
}

template <typename P, int kStep>
struct Transposition {
  TF1XENT_INLINE void apply(Vector<P>* rows) {
    exchange_all_blocks<P, kStep>(rows, typename ListUpTo<Lanes<P>::kLanes / 2>::Type());
    Transposition<P, kStep / 2>::apply(rows);
  }
};
template <typename P>
struct Transposition<P, 0> {
  TF1XENT_INLINE void apply(Vector<P>*) {}
};

// Transposes as many vectors as a vector has lanes.
template <typename P>
TF1XENT_INLINE void transpose(Vector<P>* rows) {
  Transposition<P, Lanes<P>::kLanes / 2>::apply(rows);
}

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_TRANSPOSITION_H_
