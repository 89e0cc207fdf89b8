// exp and log1p of vectors.

#ifndef TF1XENT_FUNCTIONS_H_
#define TF1XENT_FUNCTIONS_H_

#include "polynomials.h"
#include "vectors.h"

namespace tf1xent {
namespace TF1XENT_LEVEL {

// --- Powers of 2 ------------------------------------------------------------------------------------

// exp(x) = 2^(k / steps) exp(r), with k an integer and |r| <= log(2) / (2 steps): the more steps, the
// fewer terms has exp(r). There are as many as one instruction can look up powers of: 2^kStepBits.
#if defined(__AVX512F__)
constexpr int kFloatStepBits = 4, kDoubleStepBits = 3;
constexpr auto& kFloatExp = polynomials::kFloatExp16;
constexpr auto& kDoubleExp = polynomials::kDoubleExp8;
#elif defined(__AVX2__)
constexpr int kFloatStepBits = 3, kDoubleStepBits = 0;
constexpr auto& kFloatExp = polynomials::kFloatExp8;
constexpr auto& kDoubleExp = polynomials::kDoubleExp1;
#else
constexpr int kFloatStepBits = 0, kDoubleStepBits = 0;
constexpr auto& kFloatExp = polynomials::kFloatExp1;
constexpr auto& kDoubleExp = polynomials::kDoubleExp1;
#endif

// 2^(i / steps), i being the last bits of the numbers: those that count up to steps - 1.
#if defined(__AVX512F__)
TF1XENT_INLINE Vector<float> part_of_power(Integers<float> numbers) {
  const Vector<float> powers = load(polynomials::kFloatPowers16);
  return bits_of<Vector<float>>(
      _mm512_permutexvar_ps(bits_of<__m512i>(numbers), bits_of<__m512>(powers)));
}
TF1XENT_INLINE Vector<double> part_of_power(Integers<double> numbers) {
  const Vector<double> powers = load(polynomials::kDoublePowers8);
  return bits_of<Vector<double>>(
      _mm512_permutexvar_pd(bits_of<__m512i>(numbers), bits_of<__m512d>(powers)));
}
#else
#if defined(__AVX2__)
TF1XENT_INLINE Vector<float> part_of_power(Integers<float> numbers) {
  const Vector<float> powers = load(polynomials::kFloatPowers8);
  return bits_of<Vector<float>>(
      _mm256_permutevar8x32_ps(bits_of<__m256>(powers), bits_of<__m256i>(numbers)));
}
#else
TF1XENT_INLINE Vector<float> part_of_power(Integers<float>) { return splat(1.0f); }
#endif
TF1XENT_INLINE Vector<double> part_of_power(Integers<double>) { return splat(1.0); }
#endif

// --- What is known of a type ------------------------------------------------------------------------

template <typename P>
struct Terms;

template <>
struct Terms<float> {
  typedef int32_t Int;
  static constexpr int kMantissaBits = 23;
  static constexpr Int kExponentBias = 127;
  static constexpr Int kRootHalfBits = 0x3f3504f3;  // sqrt(1/2)
  static constexpr int kStepBits = kFloatStepBits;
  static constexpr float kRounding = 12582912.0f / (1 << kStepBits);  // adding it rounds to steps
  static constexpr float kExpZero = -104.0f;  // exp of this and of what is below is 0
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLog2High = polynomials::kFloatLog2High;
  static constexpr float kLog2Low = polynomials::kFloatLog2Low;
  static constexpr int kExpTerms = sizeof(kFloatExp) / sizeof(float);
  static constexpr int kLogTerms = sizeof(polynomials::kFloatLog) / sizeof(float);
  TF1XENT_INLINE float exp_term(int i) { return kFloatExp[i]; }
  TF1XENT_INLINE float log_term(int i) { return polynomials::kFloatLog[i]; }
};

template <>
struct Terms<double> {
  typedef int64_t Int;
  static constexpr int kMantissaBits = 52;
  static constexpr Int kExponentBias = 1023;
  static constexpr Int kRootHalfBits = 0x3fe6a09e667f3bcd;
  static constexpr int kStepBits = kDoubleStepBits;
  static constexpr double kRounding = 6755399441055744.0 / (1 << kStepBits);
  static constexpr double kExpZero = -746.0;
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLog2High = polynomials::kDoubleLog2High;
  static constexpr double kLog2Low = polynomials::kDoubleLog2Low;
  static constexpr int kExpTerms = sizeof(kDoubleExp) / sizeof(double);
  static constexpr int kLogTerms = sizeof(polynomials::kDoubleLog) / sizeof(double);
  TF1XENT_INLINE double exp_term(int i) { return kDoubleExp[i]; }
  TF1XENT_INLINE double log_term(int i) { return polynomials::kDoubleLog[i]; }
};

// --- The functions ----------------------------------------------------------------------------------

// value 2^floor(n), with n of small size, given as a number and as that plus kRounding.
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
// In two goes, of which the first is exact, so that a subnormal result is rounded once.
template <typename P>
TF1XENT_INLINE Vector<P> scaled(Vector<P> value, Vector<P> shifted, Vector<P>) {
  typedef Terms<P> L;
  typedef Integers<P> I;
  const I exponent = (bits_of<I>(shifted) - bits_of<I>(splat<P>(L::kRounding))) >> L::kStepBits;
  const I half = exponent >> 1;
  const I rest = exponent - half;
  return value * bits_of<Vector<P>>((half + L::kExponentBias) << L::kMantissaBits) *
         bits_of<Vector<P>>((rest + L::kExponentBias) << L::kMantissaBits);
}
#endif

// exp(x) for x <= 88, of doubles 700, -inf and NaN included, to 2 ulp; exp(0) is 1 exactly.
template <typename P>
TF1XENT_INLINE Vector<P> exponential(Vector<P> x) {
  typedef Terms<P> L;
  typedef Vector<P> V;
  x = larger(splat<P>(L::kExpZero), x);  // NaN stays
  const V shifted = x * L::kLog2E + L::kRounding;
  const V n = shifted - L::kRounding;
  V r = x - n * L::kLog2High;
  r = r - n * L::kLog2Low;
  V q = splat<P>(L::exp_term(L::kExpTerms - 1));
  for (int i = L::kExpTerms - 2; i >= 0; --i) q = q * r + L::exp_term(i);
  const V power = part_of_power(bits_of<Integers<P>>(shifted));
  return scaled<P>(power * r * q + power, shifted, n);
}

// log(1 + x) for x >= 0, +inf and NaN included, to 2 ulp.
template <typename P>
TF1XENT_INLINE Vector<P> log1p_nonnegative(Vector<P> x) {
  typedef Terms<P> L;
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
TF1XENT_INLINE P exponential_of(P x) {
  return exponential<P>(splat(x))[0];
}

}  // namespace TF1XENT_LEVEL
}  // namespace tf1xent

#endif  // TF1XENT_FUNCTIONS_H_
