// Vectors of the level that is compiled for: loads, stores, exp, log1p.
//
// Vectors are those of GCC and clang (arithmetic, comparisons and ?: act lane by lane), so that the
// code is the same for all levels; a few conversions have instructions of their own. Has to be
// compiled without -ffast-math, and with -ffp-contract=fast.

#ifndef TF1XENT_VECTORS_H_
#define TF1XENT_VECTORS_H_

#ifndef TF1XENT_LEVEL
#error "TF1XENT_LEVEL must name the level that is compiled for"
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "polynomials.h"
#include "table.h"

#define TF1XENT_INLINE static inline __attribute__((always_inline))

namespace tf1xent {
namespace TF1XENT_LEVEL {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename P>
struct Lanes;

template <>
struct Lanes<float> {
  typedef int32_t Int;
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / 4;
  static constexpr int kMantissaBits = 23;
  static constexpr Int kExponentBias = 127;
  static constexpr Int kRootHalfBits = 0x3f3504f3;  // sqrt(1/2)
  static constexpr float kRounding = 12582912.0f;   // 1.5 2^23: adding it rounds to integers
  static constexpr float kExpZero = -104.0f;        // exp of this and of what is below is 0
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLog2High = polynomials::kFloatLog2High;
  static constexpr float kLog2Low = polynomials::kFloatLog2Low;
  static constexpr int kExpTerms = sizeof(polynomials::kFloatExp) / sizeof(float);
  static constexpr int kLogTerms = sizeof(polynomials::kFloatLog) / sizeof(float);
  TF1XENT_INLINE float exp_term(int i) { return polynomials::kFloatExp[i]; }
  TF1XENT_INLINE float log_term(int i) { return polynomials::kFloatLog[i]; }
};

template <>
struct Lanes<double> {
  typedef int64_t Int;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / 8;
  static constexpr int kMantissaBits = 52;
  static constexpr Int kExponentBias = 1023;
  static constexpr Int kRootHalfBits = 0x3fe6a09e667f3bcd;
  static constexpr double kRounding = 6755399441055744.0;  // 1.5 2^52
  static constexpr double kExpZero = -746.0;
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLog2High = polynomials::kDoubleLog2High;
  static constexpr double kLog2Low = polynomials::kDoubleLog2Low;
  static constexpr int kExpTerms = sizeof(polynomials::kDoubleExp) / sizeof(double);
  static constexpr int kLogTerms = sizeof(polynomials::kDoubleLog) / sizeof(double);
  TF1XENT_INLINE double exp_term(int i) { return polynomials::kDoubleExp[i]; }
  TF1XENT_INLINE double log_term(int i) { return polynomials::kDoubleLog[i]; }
};

template <typename P>
using Vector = typename Lanes<P>::V;
template <typename P>
using Integers = typename Lanes<P>::I;

constexpr float kInfinity = __builtin_inff();
constexpr float kNaN = __builtin_nanf("");

template <typename P>
TF1XENT_INLINE Vector<P> splat(P value) {
  return value - Vector<P>{};  // value - 0 is value, also -0
}

template <typename To, typename From>
TF1XENT_INLINE To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "a change of type keeps the bits");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

// --- Sixteen bits ---------------------------------------------------------------------------------

typedef uint16_t ShortBits __attribute__((vector_size(kVectorBytes / 2)));
typedef Vector<float> FloatVector;
typedef Integers<float> FloatBits;
typedef uint32_t UnsignedBits __attribute__((vector_size(kVectorBytes)));

TF1XENT_INLINE FloatVector to_float(BFloat16, ShortBits bits) {
  return bits_of<FloatVector>(__builtin_convertvector(bits, FloatBits) << 16);
}

TF1XENT_INLINE ShortBits from_float(BFloat16, FloatVector value) {
  const UnsignedBits bits = bits_of<UnsignedBits>(value);
  const UnsignedBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // ties to even
  const UnsignedBits nan = (bits >> 16) | 0x40;
  return __builtin_convertvector(value == value ? rounded : nan, ShortBits);
}

#if defined(__AVX512F__)
TF1XENT_INLINE FloatVector to_float(Half, ShortBits bits) {
  return bits_of<FloatVector>(_mm512_cvtph_ps(bits_of<__m256i>(bits)));
}
TF1XENT_INLINE ShortBits from_float(Half, FloatVector value) {
  return bits_of<ShortBits>(_mm512_cvtps_ph(bits_of<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__) && defined(__F16C__)
TF1XENT_INLINE FloatVector to_float(Half, ShortBits bits) {
  return bits_of<FloatVector>(_mm256_cvtph_ps(bits_of<__m128i>(bits)));
}
TF1XENT_INLINE ShortBits from_float(Half, FloatVector value) {
  return bits_of<ShortBits>(_mm256_cvtps_ph(bits_of<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
}
#else
TF1XENT_INLINE FloatVector to_float(Half, ShortBits bits) {
  // Without subnormal floats on the way: TensorFlow computes with those taken for 0.
  const FloatBits wide = __builtin_convertvector(bits, FloatBits);
  const FloatBits magnitude = wide & 0x7fff;
  const FloatVector subnormal =
      __builtin_convertvector(magnitude, FloatVector) * 5.9604644775390625e-8f;  // 2^-24
  FloatBits result = (magnitude << 13) + (112 << 23);
  result = magnitude < 0x400 ? bits_of<FloatBits>(subnormal) : result;
  result |= (wide & 0x8000) << 16;
  result |= (wide & 0x7c00) == 0x7c00 ? FloatBits{} + 0x7f800000 : FloatBits{};
  return bits_of<FloatVector>(result);
}
TF1XENT_INLINE ShortBits from_float(Half, FloatVector value) {
  const UnsignedBits bits = bits_of<UnsignedBits>(value);
  const UnsignedBits magnitude = bits & 0x7fffffff;
  // Below 2^-14 a sum with 1/2 rounds to the subnormals of half, ties to even.
  const UnsignedBits subnormal =
      bits_of<UnsignedBits>(bits_of<FloatVector>(magnitude) + 0.5f) - 0x3f000000;
  const UnsignedBits normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  UnsignedBits result = magnitude < (113u << 23) ? subnormal : normal;
  result = magnitude >= 0x477ff000 ? UnsignedBits{} + 0x7c00 : result;  // from 65520 on: inf
  result = magnitude > 0x7f800000 ? UnsignedBits{} + 0x7e00 : result;
  return __builtin_convertvector(result | ((bits >> 16) & 0x8000), ShortBits);
}
#endif

// --- Loads and stores, unaligned --------------------------------------------------------------------

template <typename P>
TF1XENT_INLINE Vector<P> load(const P* from) {
  Vector<P> vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <typename P>
TF1XENT_INLINE void store(P* to, Vector<P> vector) {
  __builtin_memcpy(to, &vector, sizeof(vector));
}

template <typename P>
TF1XENT_INLINE Integers<P> load_integers(const typename Lanes<P>::Int* from) {
  Integers<P> vector;
  __builtin_memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <typename S>
TF1XENT_INLINE FloatVector load_short(const S* from) {
  ShortBits bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return to_float(S(), bits);
}

template <typename S>
TF1XENT_INLINE void store_short(S* to, FloatVector vector) {
  const ShortBits bits = from_float(S(), vector);
  __builtin_memcpy(to, &bits, sizeof(bits));
}

TF1XENT_INLINE FloatVector load(const Half* from) { return load_short(from); }
TF1XENT_INLINE FloatVector load(const BFloat16* from) { return load_short(from); }
TF1XENT_INLINE void store(Half* to, FloatVector vector) { store_short(to, vector); }
TF1XENT_INLINE void store(BFloat16* to, FloatVector vector) { store_short(to, vector); }

// The first `count` lanes; the others are of no meaning when stored, and 0 when loaded.
template <typename T>
TF1XENT_INLINE Vector<Precise<T>> load_first(const T* from, int count) {
  T lanes[Lanes<Precise<T>>::kLanes] = {};
  for (int i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
}

template <typename T>
TF1XENT_INLINE void store_first(T* to, Vector<Precise<T>> vector, int count) {
  T lanes[Lanes<Precise<T>>::kLanes];
  store(lanes, vector);
  for (int i = 0; i < count; ++i) to[i] = lanes[i];
}

#if defined(__AVX512F__)
TF1XENT_INLINE FloatVector load_first(const float* from, int count) {
  return bits_of<FloatVector>(_mm512_maskz_loadu_ps((1u << count) - 1, from));
}
TF1XENT_INLINE Vector<double> load_first(const double* from, int count) {
  return bits_of<Vector<double>>(_mm512_maskz_loadu_pd((1u << count) - 1, from));
}
TF1XENT_INLINE void store_first(float* to, FloatVector vector, int count) {
  _mm512_mask_storeu_ps(to, (1u << count) - 1, bits_of<__m512>(vector));
}
TF1XENT_INLINE void store_first(double* to, Vector<double> vector, int count) {
  _mm512_mask_storeu_pd(to, (1u << count) - 1, bits_of<__m512d>(vector));
}
#endif

// All lanes, or the first ones where `count` is less.
template <typename T>
TF1XENT_INLINE Vector<Precise<T>> load_some(const T* from, int count) {
  return count == Lanes<Precise<T>>::kLanes ? load(from) : load_first(from, count);
}
template <typename T>
TF1XENT_INLINE void store_some(T* to, Vector<Precise<T>> vector, int count) {
  if (count == Lanes<Precise<T>>::kLanes)
    store(to, vector);
  else
    store_first(to, vector, count);
}

// A store of an aligned vector past the caches, for what is not read again soon: the memory behind it
// is not read first. finish_streaming() has to follow before another thread is told of it.
template <typename T>
TF1XENT_INLINE void stream(T* to, Vector<Precise<T>> vector) {
  store(to, vector);
}
TF1XENT_INLINE void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

#if defined(__SSE2__)
TF1XENT_INLINE void stream(float* to, FloatVector vector) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, bits_of<__m512>(vector));
#elif defined(__AVX2__)
  _mm256_stream_ps(to, bits_of<__m256>(vector));
#else
  _mm_stream_ps(to, bits_of<__m128>(vector));
#endif
}
TF1XENT_INLINE void stream(double* to, Vector<double> vector) {
  stream(reinterpret_cast<float*>(to), bits_of<FloatVector>(vector));
}
#endif

template <typename T>
TF1XENT_INLINE Precise<T> load_one(const T* from) {
  return load_first(from, 1)[0];
}
TF1XENT_INLINE float load_one(const float* from) { return *from; }
TF1XENT_INLINE double load_one(const double* from) { return *from; }

template <typename T>
TF1XENT_INLINE void store_one(T* to, Precise<T> value) {
  store_first(to, splat(value), 1);
}

// The lanes' own numbers: 0, 1, ...
template <typename P>
TF1XENT_INLINE Integers<P> lane_numbers() {
  typename Lanes<P>::Int numbers[Lanes<P>::kLanes];
  for (int i = 0; i < Lanes<P>::kLanes; ++i) numbers[i] = i;
  return load_integers<P>(numbers);
}

template <typename P>
TF1XENT_INLINE Vector<P> larger(Vector<P> a, Vector<P> b) {
  return a > b ? a : b;  // b where either is NaN
}

// Whether any lane of a comparison is true.
template <typename P>
TF1XENT_INLINE bool any_of(Integers<P> comparison) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(bits_of<__m512i>(comparison)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(bits_of<__m256i>(comparison)) != 0;
#else
  typedef int64_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = bits_of<Words>(comparison);
  return (words[0] | words[1]) != 0;
#endif
}

template <typename P>
TF1XENT_INLINE P sum_of_lanes(Vector<P> vector) {
  P lanes[Lanes<P>::kLanes];
  store(lanes, vector);
  for (int width = Lanes<P>::kLanes / 2; width; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

template <typename P>
TF1XENT_INLINE P largest_of_lanes(Vector<P> vector) {
  P lanes[Lanes<P>::kLanes];
  store(lanes, vector);
  for (int width = Lanes<P>::kLanes / 2; width; width /= 2)
    for (int i = 0; i < width; ++i)
      lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
  return lanes[0];
}

#if defined(__AVX512F__)
template <>
inline __attribute__((always_inline)) float sum_of_lanes<float>(FloatVector vector) {
  return _mm512_reduce_add_ps(bits_of<__m512>(vector));
}
template <>
inline __attribute__((always_inline)) double sum_of_lanes<double>(Vector<double> vector) {
  return _mm512_reduce_add_pd(bits_of<__m512d>(vector));
}
// Of no NaN: those that are searched for their largest have been left out before.
template <>
inline __attribute__((always_inline)) float largest_of_lanes<float>(FloatVector vector) {
  return _mm512_reduce_max_ps(bits_of<__m512>(vector));
}
template <>
inline __attribute__((always_inline)) double largest_of_lanes<double>(Vector<double> vector) {
  return _mm512_reduce_max_pd(bits_of<__m512d>(vector));
}
#endif

// --- Transposition ----------------------------------------------------------------------------------

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

// --- Functions ----------------------------------------------------------------------------------

#if defined(__AVX512F__)
TF1XENT_INLINE Vector<float> times_power_of_2(Vector<float> value, Vector<float> exponent) {
  return bits_of<Vector<float>>(
      _mm512_scalef_ps(bits_of<__m512>(value), bits_of<__m512>(exponent)));
}
TF1XENT_INLINE Vector<double> times_power_of_2(Vector<double> value, Vector<double> exponent) {
  return bits_of<Vector<double>>(
      _mm512_scalef_pd(bits_of<__m512d>(value), bits_of<__m512d>(exponent)));
}
template <typename P>
TF1XENT_INLINE Vector<P> scaled(Vector<P> value, Vector<P>, Vector<P> exponent) {
  return times_power_of_2(value, exponent);
}
#else
// value 2^n, with n an integer of small size, given as a number and as that plus kRounding. In two
// steps, of which the first is exact, so that a subnormal result is rounded once.
template <typename P>
TF1XENT_INLINE Vector<P> scaled(Vector<P> value, Vector<P> shifted, Vector<P>) {
  typedef Lanes<P> L;
  typedef Integers<P> I;
  const I exponent = bits_of<I>(shifted) - bits_of<I>(splat<P>(L::kRounding));
  const I half = exponent >> 1;
  const I rest = exponent - half;
  return value * bits_of<Vector<P>>((half + L::kExponentBias) << L::kMantissaBits) *
         bits_of<Vector<P>>((rest + L::kExponentBias) << L::kMantissaBits);
}
#endif

// exp(x) for x <= 0, -inf and NaN included, to 2 ulp; exp(0) is 1 exactly.
template <typename P>
TF1XENT_INLINE Vector<P> exp_nonpositive(Vector<P> x) {
  typedef Lanes<P> L;
  typedef Vector<P> V;
  x = larger<P>(splat<P>(L::kExpZero), x);  // NaN stays
  const V shifted = x * L::kLog2E + L::kRounding;
  const V n = shifted - L::kRounding;
  V r = x - n * L::kLog2High;
  r = r - n * L::kLog2Low;
  V q = splat<P>(L::exp_term(L::kExpTerms - 1));
  for (int i = L::kExpTerms - 2; i >= 0; --i) q = q * r + L::exp_term(i);
  q = q * r + P(1);
  q = q * r + P(1);
  return scaled<P>(q, shifted, n);
}

// log(1 + x) for x >= 0, +inf and NaN included, to 2 ulp.
template <typename P>
TF1XENT_INLINE Vector<P> log1p_nonnegative(Vector<P> x) {
  typedef Lanes<P> L;
  typedef Vector<P> V;
  typedef Integers<P> I;
  const V u = x + P(1);
  const V lost = x < P(1) ? x - (u - P(1)) : P(1) - (u - x);  // 1 + x - u, exactly
  const I bits = bits_of<I>(u);
  const I exponent = (bits - L::kRootHalfBits) >> L::kMantissaBits;
  const V f = bits_of<V>(bits - (exponent << L::kMantissaBits)) - P(1);
  const V k = __builtin_convertvector(exponent, V);
  const V s = f / (f + P(2));
  const V z = s * s;
  V q = splat<P>(L::log_term(L::kLogTerms - 1));
  for (int i = L::kLogTerms - 2; i >= 0; --i) q = q * z + L::log_term(i);
  const V half_square = f * f * P(0.5);
  // log(1 + f) = 2 s + s z q, and 2 s = f - s f = f - f^2/2 + s f^2/2.
  const V small = s * (half_square + z * q) + (k * L::kLog2Low + lost / u);
  const V result = k * L::kLog2High + (f - (half_square - small));
  return x < P(kInfinity) ? result : x;
}

template <typename P>
TF1XENT_INLINE P exp_nonpositive_of(P x) {
  return exp_nonpositive<P>(splat(x))[0];
}

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_VECTORS_H_
