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

// exp(r) = 1 + r + r^2 Q(r), |r| <= log(2) / 2: Q; relative to exp(r), error below 1.0e-8.
constexpr float kFloatExp[] = {
    0.5f,
    0.166665763f,
    0.0416665524f,
    0.00836323295f,
    0.00139262504f,
};

// log((1 + s) / (1 - s)) = 2 s + s z Q(z), z = s^2: Q; relative to the log, error below 3.0e-10.
constexpr float kFloatLog[] = {
    0.666666687f,
    0.400001228f,
    0.285507798f,
    0.233316138f,
};

// exp(r) = 1 + r + r^2 Q(r), |r| <= log(2) / 2: Q; relative to exp(r), error below 1.6e-17.
constexpr double kDoubleExp[] = {
    0.50000000000000011,
    0.16666666666666669,
    0.041666666666623824,
    0.008333333333330039,
    0.0013888888917367081,
    0.00019841269863171557,
    2.4801521057868204e-05,
    2.7557268276905696e-06,
    2.7620201591031547e-07,
    2.5100472505694996e-08,
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
