// exponential and log1p_nonnegative of a level: at most 2 ulp, which is the distance of two
// numbers next to each other, below the smallest normal number too.
//
//     functions LEVEL STRIDE     of the floats, every STRIDE-th

#include <vector>

#include "checking.h"

namespace checking {

constexpr double kMostUlp = 2;
constexpr int64_t kChunk = 4099;  // no multiple of a vector: the last one of a chunk is in part

template <typename P>
using Apply = void (*)(const P*, int64_t, P*);

struct Worst {
  double ulp = 0, at = 0;
  int64_t points = 0;
};

constexpr float kNearExp = power(-26), kNearLog = power(-18);
constexpr float kLargeSum = power(63);
constexpr double kUlp = power(-52);

// 2^exponent, quickly, of a normal double.
double quick_power(int exponent) { return bits_of<double>(uint64_t(exponent + 1023) << 52); }

// In units of the distance between floats at the right value, which double has exactly enough.
double ulp_of(float got, double want) {
  if (want == 0) return got == 0 ? 0 : INFINITY;
  int exponent = int(bits_of<uint64_t>(want) >> 52) - 1023;
  exponent = exponent < -126 ? -126 : exponent;
  return fabs(got - want) * quick_power(23 - exponent);
}

double ulp_of(double got, long double want) {
  if (want == 0) return got == 0 ? 0 : INFINITY;
  const int exponent = ilogbl(want);
  return double(ldexpl(fabsl(got - want), 52 - (exponent < -1022 ? -1022 : exponent)));
}

// Near 0 a term of the series is all that double has room for, and is a good deal faster.
double right_exp(float x) { return fabsf(x) < kNearExp ? 1.0 + x : exp(double(x)); }
double right_log1p(float x) { return x < kNearLog ? x - 0.5 * x * x : log1p(double(x)); }
long double right_exp(double x) { return expl((long double)x); }
long double right_log1p(double x) { return log1pl((long double)x); }

// Whether a distance is surely no more than so many ulp, which is quickly seen.
bool is_within(float got, double want, double ulp) {
  return fabs(got - want) <= ulp * want * power(-24);
}
bool is_within(double, long double, double) { return false; }

template <typename P, typename Right>
void check(const std::vector<P>& x, Apply<P> apply, Right right, Worst& worst) {
  std::vector<P> result(x.size());
  apply(x.data(), int64_t(x.size()), result.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto want = right(x[i]);
    if (is_within(result[i], want, worst.ulp)) continue;
    const double ulp = ulp_of(result[i], want);
    if (!(ulp <= worst.ulp)) {  // also where it is NaN
      worst.ulp = ulp;
      worst.at = x[i];
    }
  }
  worst.points += int64_t(x.size());
}

void report(const char* name, const Worst& worst) {
  printf("%s: worst %.3f ulp, at %.17g, of %lld points\n", name, worst.ulp, worst.at,
         (long long)worst.points);
  if (!(worst.ulp <= kMostUlp)) fail("%s: %.3f ulp at %.17g (%a)", name, worst.ulp, worst.at,
                                     worst.at);
}

template <typename Right>
void check_floats(const char* name, uint32_t first, uint32_t last, int64_t stride,
                  Apply<float> apply, Right right) {
  Worst worst;
  std::vector<float> x;
  for (int64_t bits = first; bits <= last; bits += kChunk * stride) {
    const int64_t left = (last - bits) / stride + 1;
    x.resize(left < kChunk ? left : kChunk);
    for (size_t i = 0; i < x.size(); ++i) x[i] = bits_of<float>(uint32_t(bits + i * stride));
    check(x, apply, right, worst);
  }
  report(name, worst);
}

template <typename Point, typename Right>
void check_doubles(const char* name, int64_t points, Point point, Apply<double> apply,
                   Right right) {
  Worst worst;
  Random random{20210317};
  std::vector<double> x;
  for (int64_t done = 0; done < points; done += kChunk) {
    x.clear();
    for (int64_t i = 0; i < kChunk; ++i) x.push_back(point(random, i));
    check(x, apply, right, worst);
  }
  report(name, worst);
}

double exp_point(Random& random, int64_t i) {
  switch (i % 5) {
    case 0: return -random.uniform(0, 746);
    case 1: return -random.uniform(707, 746);  // subnormal results
    case 2: return -ldexp(random.uniform(1, 2), int(random.below(70)) - 60);
    case 3: return random.uniform(0, 700);
    default: {  // where the nearest power of 2 changes
      const double edge = (double(random.below(1074)) + 0.5) * 0.6931471805599453;
      return -edge * (1 + random.uniform(-8, 8) * kUlp);
    }
  }
}

double log1p_point(Random& random, int64_t i) {
  switch (i % 4) {
    case 0: return ldexp(random.uniform(1, 2), int(random.below(2090)) - 1070);
    case 1: return random.uniform(0, 4);
    case 2: return ldexp(random.uniform(1, 2), int(random.below(120)) - 60);
    default: {  // where the exponent that is taken out changes
      const double edge = ldexp(1.4142135623730951, int(random.below(60)));
      return edge * (1 + random.uniform(-8, 8) * kUlp) - 1;
    }
  }
}

template <typename P>
void check_edges(const char* name, Apply<P> exp_of, Apply<P> log1p_of) {
  const P infinity = std::numeric_limits<P>::infinity(), nan = std::numeric_limits<P>::quiet_NaN();
  const P least = std::numeric_limits<P>::denorm_min(), most = std::numeric_limits<P>::max();
  const P smallest = std::numeric_limits<P>::min();
  const P exp_edges[][2] = {{0, 1},        {P(-0.0), 1},   {-least, 1},       {-smallest, 1},
                            {-most, 0},    {-infinity, 0}, {P(-1e4), 0},      {nan, nan},
                            {-nan, nan}};
  const P log_edges[][2] = {{0, 0},         {least, least}, {smallest, smallest},
                            {infinity, infinity}, {nan, nan}, {-nan, nan}};
  // In every lane, and beside others.
  for (int lane = 0; lane < 33; ++lane) {
    for (const auto& edge : exp_edges) {
      P x[33], result[33];
      for (P& entry : x) entry = P(-0.25);
      x[lane] = edge[0];
      exp_of(x, 33, result);
      if (!(result[lane] == edge[1] || (result[lane] != result[lane] && edge[1] != edge[1])))
        fail("%s: exp(%g) is %g in place %d", name, double(edge[0]), double(result[lane]), lane);
      if (!(fabs(result[(lane + 1) % 33] - P(0.7788007830714049)) < 1e-7))
        fail("%s: exp(%g) in place %d spoils the next", name, double(edge[0]), lane);
    }
    for (const auto& edge : log_edges) {
      P x[33], result[33];
      for (P& entry : x) entry = P(0.25);
      x[lane] = edge[0];
      log1p_of(x, 33, result);
      if (!(result[lane] == edge[1] || (result[lane] != result[lane] && edge[1] != edge[1])))
        fail("%s: log1p(%g) is %g in place %d", name, double(edge[0]), double(result[lane]), lane);
    }
  }
}

}  // namespace checking

int main(int, char** arguments) {
  using namespace checking;
  const KernelTable& table = table_of(arguments[1]);
  const int64_t stride = atoll(arguments[2]);
  check_edges<float>("float", table.exp_of_floats, table.log1p_of_floats);
  check_edges<double>("double", table.exp_of_doubles, table.log1p_of_doubles);
  check_floats("float exp, [-105, -0]", bits_of<uint32_t>(-0.0f), bits_of<uint32_t>(-105.0f), stride,
               table.exp_of_floats, [](float x) { return right_exp(x); });
  check_floats("float exp, [0, 88]", 0, bits_of<uint32_t>(88.0f), 16 * stride, table.exp_of_floats,
               [](float x) { return right_exp(x); });
  // Sums of exponentials are below 2^63: what is larger is seen by fewer points.
  check_floats("float log1p, [0, 2^63]", 0, bits_of<uint32_t>(kLargeSum), 16 * stride,
               table.log1p_of_floats, [](float x) { return right_log1p(x); });
  check_floats("float log1p, [2^63, inf)", bits_of<uint32_t>(kLargeSum), 0x7f7fffff, 256 * stride,
               table.log1p_of_floats, [](float x) { return right_log1p(x); });
  if (std::numeric_limits<long double>::digits < 64) {
    printf("long double is no better than double here: double is left out\n");
    return finish();
  }
  const int64_t points = stride == 1 ? 3000000 : 1000000;
  check_doubles("double exp", points, exp_point, table.exp_of_doubles,
                [](double x) { return right_exp(x); });
  check_doubles("double log1p", points, log1p_point, table.log1p_of_doubles,
                [](double x) { return right_log1p(x); });
  return finish();
}
