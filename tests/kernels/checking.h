// What the programs of this folder have in common: the level under test, findings, random numbers,
// arrays of exactly the size that is said, and numbers of 16 bits by arithmetic alone.

#ifndef TF1XENT_TESTS_CHECKING_H_
#define TF1XENT_TESTS_CHECKING_H_

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <limits>

#include "table.h"

namespace checking {

using tf1xent::BFloat16;
using tf1xent::Half;
using tf1xent::Precise;
using tf1xent::KernelArguments;
using tf1xent::Kernels;
using tf1xent::Kernel;
using tf1xent::KernelTable;

constexpr int kNotHere = 77;  // exit status: this machine cannot run the test; the output says why
constexpr int kMostFindings = 20;

static int findings = 0;

__attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
  if (++findings > kMostFindings) return;
  va_list arguments;
  va_start(arguments, format);
  printf("FAILED: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
}

// The exit status of the program.
inline int finish() {
  if (findings > kMostFindings) printf("... %d findings in all\n", findings);
  return findings == 0 ? 0 : 1;
}

// The table of the level that the first argument names.
inline const KernelTable& table_of(const char* level) {
  setenv("TF1XENT_KERNEL_LEVEL", level, 1);
  const KernelTable& table = tf1xent::best_table();
  if (strcmp(table.level, level) != 0) {
    printf("this processor has no %s: its level is %s\n", level, table.level);
    exit(kNotHere);
  }
  return table;
}

// 2^exponent.
constexpr double power(int exponent) {
  return exponent == 0   ? 1
         : exponent == 1 ? 2
         : exponent < 0  ? 1 / power(-exponent / 2) / power(-exponent - -exponent / 2)
                         : power(exponent / 2) * power(exponent - exponent / 2);
}

template <typename To, typename From>
To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "a change of type keeps the bits");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// A generator of its own (splitmix64): the same numbers with every standard library.
struct Random {
  uint64_t state;

  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t end) { return int64_t(next() % uint64_t(end)); }
  double uniform(double low, double high) {
    return low + (high - low) * (double(next() >> 11) * power(-53));
  }
  // About as a normal distribution, of mean 0 and variance 1.
  double normal() { return uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1); }
};

// --- Types of logits ------------------------------------------------------------------------------

// Numbers of 16 bits: a sign, an exponent, and `fraction` bits.
inline double wide_value(uint16_t bits, int fraction) {
  const int exponents = (1 << (15 - fraction)) - 1, bias = exponents / 2;
  const int exponent = (bits & 0x7fff) >> fraction, rest = bits & ((1 << fraction) - 1);
  double value;
  if (exponent == exponents)
    value = rest ? NAN : INFINITY;
  else if (exponent == 0)
    value = ldexp(rest, 1 - bias - fraction);
  else
    value = ldexp(rest + (1 << fraction), exponent - bias - fraction);
  return bits & 0x8000 ? -value : value;
}

// The nearest one, ties to even.
inline uint16_t nearest_short(double value, int fraction) {
  const int exponents = (1 << (15 - fraction)) - 1, bias = exponents / 2;
  const int infinite = exponents << fraction;
  const int sign = signbit(value) ? 0x8000 : 0;
  const double magnitude = fabs(value);
  if (value != value) return uint16_t(sign | infinite | (1 << (fraction - 1)));
  if (magnitude >= ldexp(2 - ldexp(1, -fraction - 1), bias)) return uint16_t(sign | infinite);
  if (magnitude < ldexp(1, 1 - bias))
    return uint16_t(sign | int(nearbyint(ldexp(magnitude, bias - 1 + fraction))));
  const int exponent = ilogb(magnitude);
  const int rest = int(nearbyint(ldexp(magnitude, fraction - exponent))) - (1 << fraction);
  return uint16_t(sign | (((exponent + bias) << fraction) + rest));
}

template <typename T>
struct Type;

template <>
struct Type<float> {
  static constexpr const char* kName = "float";
  static constexpr int kFraction = 23, kLeastExponent = -149;
  static constexpr double kFar = 1e30, kMost = std::numeric_limits<float>::max();
  static double value(float number) { return number; }
  static float nearest(double value) { return float(value); }
};
template <>
struct Type<double> {
  static constexpr const char* kName = "double";
  static constexpr int kFraction = 52, kLeastExponent = -1074;
  static constexpr double kFar = 1e200, kMost = std::numeric_limits<double>::max();
  static double value(double number) { return number; }
  static double nearest(double value) { return value; }
};
template <>
struct Type<Half> {
  static constexpr const char* kName = "half";
  static constexpr int kFraction = 10, kLeastExponent = -24;
  static constexpr double kFar = 6e4, kMost = 65504;
  static double value(Half number) { return wide_value(number.bits, kFraction); }
  static Half nearest(double value) { return Half{nearest_short(value, kFraction)}; }
};
template <>
struct Type<BFloat16> {
  static constexpr const char* kName = "bfloat16";
  static constexpr int kFraction = 7, kLeastExponent = -133;
  static constexpr double kFar = 1e30, kMost = 3.3895313892515355e38;
  static double value(BFloat16 number) { return wide_value(number.bits, kFraction); }
  static BFloat16 nearest(double value) { return BFloat16{nearest_short(value, kFraction)}; }
};

// --- Arrays -----------------------------------------------------------------------------------------

// `size` numbers that end where the memory ends, so that a sanitizer sees whatever goes beyond, and
// that begin `skipped` numbers behind where the memory begins, so that they are not aligned.
template <typename T>
class Array {
 public:
  explicit Array(int64_t size, int skipped = 0)
      : size_(size), memory_(static_cast<T*>(malloc((size + skipped) * sizeof(T)))) {
    data_ = memory_ + skipped;
    memset(static_cast<void*>(data_), kUntouched, size * sizeof(T));
  }
  Array(const Array& other) : Array(other.size_, int(other.data_ - other.memory_)) {
    memcpy(static_cast<void*>(data_), other.data_, size_ * sizeof(T));
  }
  Array& operator=(const Array&) = delete;
  ~Array() { free(memory_); }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data_[i]; }
  bool operator==(const Array& other) const { return same(other, 0, size_); }
  // Of NaN any bits: its sign is the compiler's choice, and on ARM it differs between lanes.
  bool same(const Array& other, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      const double value = Type<T>::value(data_[i]), others = Type<T>::value(other.data_[i]);
      const bool both_nan = value != value && others != others;
      if (!both_nan && memcmp(data_ + i, other.data_ + i, sizeof(T)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr int kUntouched = 0x5b;  // every byte of what nobody has written to

  int64_t size_;
  T* memory_;
  T* data_;
};

// --- Kernels -------------------------------------------------------------------------------------

enum Kind {
  kSparseLoss,
  kSparseGradient,
  kSparseProduct,
  kDenseLoss,
  kDenseGradient,
  kLabelGradient,
  kDenseProduct,
  kKinds
};

constexpr const char* kKindNames[] = {
    "sparse loss",    "sparse gradient", "sparse Hessian product", "dense loss",
    "dense gradient", "label gradient",  "dense Hessian product"};

inline bool is_sparse(int kind) { return kind <= kSparseProduct; }
inline bool is_loss(int kind) { return kind == kSparseLoss || kind == kDenseLoss; }
inline bool is_product(int kind) { return kind == kSparseProduct || kind == kDenseProduct; }

template <typename T>
const Kernel<T>& kernel_of(const KernelTable& table, int kind) {
  const Kernels<T>& all = tf1xent::kernels(table, static_cast<const T*>(nullptr));
  const Kernel<T>* const kernels[] = {
      &all.sparse_loss,    &all.sparse_gradient, &all.sparse_hessian_product, &all.dense_loss,
      &all.dense_gradient, &all.label_gradient,  &all.dense_hessian_product};
  return *kernels[kind];
}

// What of a arguments, besides the logits, the output may be in place of; null where nothing. Products
// of 16 bits are computed entry by entry; others are kept in the output before they are done.
template <typename T>
const T* KernelArguments<T>::*second_place(int kind) {
  if (is_product(kind) && sizeof(T) == 2) return &KernelArguments<T>::vectors;
  return is_sparse(kind) ? nullptr : &KernelArguments<T>::distributions;
}

inline int statistics_of(int kind) {
  return is_sparse(kind) ? tf1xent::kSparseStatistics : tf1xent::kDenseStatistics;
}

}  // namespace checking

#endif  // TF1XENT_TESTS_CHECKING_H_
