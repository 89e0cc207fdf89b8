// The formulas of the kernels for one row, in long double, and how far a result may be off.

#ifndef TF1XENT_TESTS_REFERENCE_H_
#define TF1XENT_TESTS_REFERENCE_H_

#include <vector>

#include "checking.h"

namespace checking {

typedef long double Real;

struct Expected {
  Real value;
  Real allowed;  // distance
  Real most;     // what is larger may be infinite

  // How far `got` is off, in parts of what is allowed; infinite where it is of another kind.
  double off(double got) const {
    if (value != value) return got != got ? 0 : INFINITY;
    if (isinf(value)) return got == double(value) ? 0 : INFINITY;
    if (isinf(got)) return fabsl(value) + allowed >= most && (got > 0) == (value > 0) ? 0 : INFINITY;
    if (got == double(value)) return 0;
    const double parts = double(fabsl(got - value) / allowed);
    return parts == parts ? parts : INFINITY;
  }
};

template <typename T>
class Reference {
  typedef Precise<T> P;
  typedef Type<T> N;

 public:
  // For two labels, either of which may be out of range: the sparse results are NaN then.
  Reference(int64_t num_classes, const T* logits, int64_t label, int64_t other_label,
            const T* distribution, const T* vector, P scale)
      : num_classes_(num_classes),
        logits_(logits),
        distribution_(distribution),
        vector_(vector),
        labels_{label, other_label},
        scale_(scale),
        distance_(num_classes),
        e_(num_classes) {
    Real largest = -INFINITY;
    int64_t pivot = 0;
    for (int64_t j = 0; j < num_classes; ++j) {
      const Real x = N::value(logits[j]);
      if (x > largest) {
        largest = x;
        pivot = j;
      }
    }
    // Farther classes do not matter; the bound would allow anything if they counted.
    const Real cutoff = sizeof(P) == 8 ? 746 : 104;
    Real farthest = 0;
    for (int64_t j = 0; j < num_classes; ++j) {
      const Real distance = largest - N::value(logits[j]);  // NaN where the largest is infinite
      distance_[j] = distance;
      e_[j] = expl(-distance);
      (j == pivot ? at_pivot_ : others_) += e_[j];
      for (int i = 0; i < 2; ++i)
        if (j != labels_[i]) without_label_[i] += e_[j];
      if (distance > farthest) farthest = distance < cutoff ? distance : cutoff;
      const Real l = N::value(distribution[j]);
      label_sum_ += l;
      label_size_ += fabsl(l);
      if (j != pivot) others_label_sum_ += l;
      if (j != pivot) others_label_size_ += fabsl(l);
    }
    pivot_ = pivot;
    others_ += largest - largest;  // NaN where that is infinite: such a row has no softmax
    total_ = at_pivot_ + others_;
    t_ = log1pl(others_);
    relative_ = ldexpl(16 * (1 + farthest) + sqrtl(num_classes), -Type<P>::kFraction - 1);
  }

  // `which` of the two labels.
  Expected loss(int kind, int which) const {
    if (kind == kSparseLoss) {
      const Real value = is_valid(which) ? distance_[labels_[which]] + t_ : Real(NAN);
      return expected<P>(value, value, 1);
    }
    Real value = label_sum_ * t_, size = label_size_ * fabsl(t_);
    for (int64_t j = 0; j < num_classes_; ++j) {
      const Real l = N::value(distribution_[j]);
      if (l == 0) continue;
      value += l * distance_[j];
      size += fabsl(l * distance_[j]);
    }
    return expected<P>(value, size, 1);
  }

  Expected entry(int kind, int which, int64_t j) const {
    const Real p = e_[j] / total_, l = N::value(distribution_[j]);
    if (is_sparse(kind) && !is_valid(which)) return expected<T>(NAN, 0, 0);
    switch (kind) {
      case kSparseGradient: {
        const Real value = scale_ * (j == labels_[which] ? -without_label_[which] / total_ : p);
        return expected<T>(value, value, 1);
      }
      case kDenseGradient: {
        // Of the terms, which may cancel; of the likelier class those that are not near 1.
        if (j == pivot_ && others_ < 1) {
          const Real away = others_ / total_;
          return expected<T>(scale_ * (others_label_sum_ - label_sum_ * away),
                             scale_ * (others_label_size_ + label_size_ * away), label_size_);
        }
        return expected<T>(scale_ * (label_sum_ * p - l),
                           scale_ * (label_size_ * p + fabsl(l)), label_size_);
      }
      case kLabelGradient: {
        if (N::value(logits_[j]) == -INFINITY && l == 0) return expected<T>(0, 0, 1);
        const Real value = scale_ * (t_ + distance_[j]);
        return expected<T>(value, value, 1);
      }
      default: return product(kind, j, p);
    }
  }

 private:
  bool is_valid(int which) const { return labels_[which] >= 0 && labels_[which] < num_classes_; }

  // scale S p (w - <p, w>), with w = v - v_k where the pivot has more than half, else v. The two
  // agree; only how far the result may be off depends on which it is.
  Expected product(int kind, int64_t j, Real p) const {
    if (!summed_) {
      summed_ = true;
      for (int64_t i = 0; i < num_classes_; ++i) {
        const Real q = e_[i] / total_, v = N::value(vector_[i]), w = v - N::value(vector_[pivot_]);
        mean_shifted_ += q * w;
        mean_size_[0] += q * fabsl(v);
        mean_size_[1] += q * fabsl(w);
      }
    }
    const Real v = N::value(vector_[j]), w = v - N::value(vector_[pivot_]);
    const Real plain = fabsl(v) + mean_size_[0], shifted = fabsl(w) + mean_size_[1];
    Real size = others_ < 1 ? shifted : plain;
    if (fabsl(others_ - 1) < 1e-3 && plain > shifted) size = plain;
    const Real factor = scale_ * (kind == kDenseProduct ? label_sum_ : 1);
    const Real factor_size = fabsl(scale_) * (kind == kDenseProduct ? label_size_ : 1);
    return expected<T>(factor * p * (w - mean_shifted_), factor_size * p * size,
                       factor_size * (1 + size));
  }

  // A value in an R, which is off by a part of `size`; and by as many of the least number, times
  // `factor`, as there are terms, since exponentials may be subnormal.
  template <typename R>
  Expected expected(Real value, Real size, Real factor) const {
    constexpr Real kLeast = power(Type<P>::kLeastExponent);
    Real relative = relative_, least = kLeast * (num_classes_ * (4 + fabsl(scale_) + factor));
    if (sizeof(R) == 2) {  // rounded at the end
      relative += power(-Type<R>::kFraction - 1);
      least += power(Type<R>::kLeastExponent) / 2;
    }
    return Expected{value, relative * fabsl(size) + least, Real(Type<R>::kMost)};
  }

  const int64_t num_classes_;
  const T* logits_;
  const T* distribution_;
  const T* vector_;
  const int64_t labels_[2];
  const Real scale_;
  std::vector<Real> distance_, e_;  // m - x_j and its exponential
  int64_t pivot_;
  Real at_pivot_ = 0, others_ = 0, total_ = 0, t_, without_label_[2] = {0, 0}, relative_;
  Real label_sum_ = 0, label_size_ = 0, others_label_sum_ = 0, others_label_size_ = 0;
  mutable bool summed_ = false;
  mutable Real mean_shifted_ = 0, mean_size_[2] = {0, 0};
};

}  // namespace checking

#endif  // TF1XENT_TESTS_REFERENCE_H_
