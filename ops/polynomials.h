// Made by tools/kernel_polynomials.py, which says how; not to be changed by hand.

#ifndef TF1XENT_POLYNOMIALS_H_
#define TF1XENT_POLYNOMIALS_H_

namespace tf1xent {
namespace polynomials {

// log(2): 15 bits, so that products with exponents are exact, and the rest.
constexpr float kFloatLog2High = 0.693145752f;
constexpr float kFloatLog2Low = 1.42860677e-06f;

// log(2): 41 bits, so that products with exponents are exact, and the rest.
constexpr double kDoubleLog2High = 0.69314718055966296;
constexpr double kDoubleLog2Low = 2.8235290563031577e-13;

// exp(r) = 1 + r Q(r), |r| <= log(2) / 2: Q; relative to exp(r), error below 1.0e-8.
constexpr float kFloatExp1[] = {
    1.0f,
    0.5f,
    0.166665047f,
    0.041666463f,
    0.00836922042f,
    0.00139337312f,
};

// exp(r) = 1 + r Q(r), |r| <= log(2) / 16: Q; relative to exp(r), error below 3.8e-8.
constexpr float kFloatExp8[] = {
    1.0f,
    0.50005877f,
    0.166678414f,
};

// 2^(i / 8).
constexpr float kFloatPowers8[] = {
    1.0f,
    1.09050775f,
    1.18920708f,
    1.29683959f,
    1.41421354f,
    1.54221082f,
    1.68179286f,
    1.8340081f,
};

// exp(r) = 1 + r Q(r), |r| <= log(2) / 32: Q; relative to exp(r), error below 2.4e-9.
constexpr float kFloatExp16[] = {
    1.0f,
    0.500014663f,
    0.166669607f,
};

// 2^(i / 16).
constexpr float kFloatPowers16[] = {
    1.0f,
    1.04427373f,
    1.09050775f,
    1.13878858f,
    1.18920708f,
    1.24185777f,
    1.29683959f,
    1.35425556f,
    1.41421354f,
    1.47682619f,
    1.54221082f,
    1.61049032f,
    1.68179286f,
    1.75625217f,
    1.8340081f,
    1.91520655f,
};

// log((1 + s) / (1 - s)) = 2 s + s z Q(z), z = s^2: Q; relative to the log, error below 3.0e-10.
constexpr float kFloatLog[] = {
    0.666666687f,
    0.400001228f,
    0.285507798f,
    0.233316138f,
};

// exp(r) = 1 + r Q(r), |r| <= log(2) / 2: Q; relative to exp(r), error below 1.1e-17.
constexpr double kDoubleExp1[] = {
    1.0,
    0.50000000000000056,
    0.16666666666666671,
    0.041666666666572393,
    0.0083333333333260838,
    0.0013888888932751,
    0.00019841269875002279,
    2.4801504014426906e-05,
    2.7557255170000888e-06,
    2.7626495546432196e-07,
    2.5105312729622103e-08,
};

// exp(r) = 1 + r Q(r), |r| <= log(2) / 16: Q; relative to exp(r), error below 5.1e-18.
constexpr double kDoubleExp8[] = {
    1.0,
    0.50000000000001799,
    0.16666666666666868,
    0.041666666589919826,
    0.00833333332480596,
    0.0013889705110294549,
    0.00019842176749636047,
};

// 2^(i / 8).
constexpr double kDoublePowers8[] = {
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
};

// log((1 + s) / (1 - s)) = 2 s + s z Q(z), z = s^2: Q; relative to the log, error below 5.4e-19.
constexpr double kDoubleLog[] = {
    0.66666666666666663,
    0.40000000000000885,
    0.28571428570799784,
    0.22222222392581045,
    0.18181795547521137,
    0.15386244737621665,
    0.13268638369266825,
    0.13088034850927555,
};

}  // namespace polynomials
}  // namespace tf1xent

#endif  // TF1XENT_POLYNOMIALS_H_
