// Vectors of the level that is compiled for: loads, stores, conversions of 16 bits.
//
// Vectors are those of GCC and clang (arithmetic, comparisons and ?: act lane by lane), so that the
// code is the same for all levels; a few conversions have instructions of their own. Has to be
// compiled without -ffast-math.

#ifndef TF1XENT_VECTORS_H_
#define TF1XENT_VECTORS_H_

#ifndef TF1XENT_LEVEL
#error "TF1XENT_LEVEL must name the level that is compiled for"
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#endif

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
};

template <>
struct Lanes<double> {
  typedef int64_t Int;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / 8;
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

// The larger one, b where either is NaN. In one instruction, where there is one: GCC would make two or
// three of a comparison with a constant.
#if defined(__AVX512F__)
TF1XENT_INLINE FloatVector larger(FloatVector a, FloatVector b) {
  return bits_of<FloatVector>(_mm512_max_ps(bits_of<__m512>(a), bits_of<__m512>(b)));
}
TF1XENT_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) {
  return bits_of<Vector<double>>(_mm512_max_pd(bits_of<__m512d>(a), bits_of<__m512d>(b)));
}
#elif defined(__AVX2__)
TF1XENT_INLINE FloatVector larger(FloatVector a, FloatVector b) {
  return bits_of<FloatVector>(_mm256_max_ps(bits_of<__m256>(a), bits_of<__m256>(b)));
}
TF1XENT_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) {
  return bits_of<Vector<double>>(_mm256_max_pd(bits_of<__m256d>(a), bits_of<__m256d>(b)));
}
#elif defined(__SSE2__)
TF1XENT_INLINE FloatVector larger(FloatVector a, FloatVector b) {
  return bits_of<FloatVector>(_mm_max_ps(bits_of<__m128>(a), bits_of<__m128>(b)));
}
TF1XENT_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) {
  return bits_of<Vector<double>>(_mm_max_pd(bits_of<__m128d>(a), bits_of<__m128d>(b)));
}
#else
template <typename V>
TF1XENT_INLINE V larger(V a, V b) {
  return a > b ? a : b;
}
#endif

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

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_VECTORS_H_
