// Numbers of 16 bits as a level reads and writes them, against arithmetic in double.
//
//     halves LEVEL STRIDE     all numbers of 16 bits; of the floats, every STRIDE-th, and all ties
//
// Through kernels on one class: the largest logit is what was read, and with statistics (0, -f, 1)
// of the loss the gradient at the label is f as it is written.

#include <vector>

#include "checking.h"

namespace checking {

template <typename T>
void check_reading(const KernelTable& table) {
  const int64_t rows = 1 << 16;
  std::vector<T> logits(rows);
  for (int64_t i = 0; i < rows; ++i) logits[i].bits = uint16_t(i);
  const std::vector<int32_t> labels(rows, 0);
  std::vector<float> loss(rows), statistics(rows * tf1xent::kSparseStatistics);
  KernelArguments<T> p = {};
  p.rows = rows;
  p.num_classes = 1;
  p.logits = logits.data();
  p.labels.data = labels.data();
  p.loss = loss.data();
  p.statistics_out = statistics.data();
  kernel_of<T>(table, kSparseLoss).rows(p, 0, rows);
  for (int64_t i = 0; i < rows; ++i) {
    const float got = statistics[i];
    const float want = float(Type<T>::value(logits[i]));
    if (want != want ? got == got : bits_of<uint32_t>(got) != bits_of<uint32_t>(want))
      fail("%s %04x is read as %.9g, right is %.9g", Type<T>::kName, unsigned(i), got, want);
  }
}

template <typename T>
class Writing {
 public:
  explicit Writing(const KernelTable& table) : kernel_(kernel_of<T>(table, kSparseGradient)) {}

  void add(float value) {
    values_.push_back(value);
    if (values_.size() == kRows) flush();
  }

  void flush() {
    const int64_t rows = int64_t(values_.size());
    const std::vector<int32_t> labels(rows, 0);
    const std::vector<float> scale(rows, 1);
    const std::vector<T> logits(rows, T{0});
    std::vector<float> statistics(rows * tf1xent::kSparseStatistics);
    for (int64_t row = 0; row < rows; ++row) {
      statistics[rows + row] = -values_[row];
      statistics[2 * rows + row] = 1;
    }
    std::vector<T> output(rows);
    KernelArguments<T> p = {};
    p.rows = rows;
    p.num_classes = 1;
    p.logits = logits.data();
    p.labels.data = labels.data();
    p.scale = scale.data();
    p.statistics = statistics.data();
    p.output = output.data();
    kernel_.rows(p, 0, rows);
    for (int64_t i = 0; i < rows; ++i) {
      const T want = Type<T>::nearest(values_[i]);
      const double got = Type<T>::value(output[i]);
      if (values_[i] != values_[i] ? got == got : output[i].bits != want.bits)
        fail("%.9g (%a) is written as %s %04x, right is %04x", values_[i], values_[i],
             Type<T>::kName, output[i].bits, want.bits);
    }
    count_ += rows;
    values_.clear();
  }

  int64_t count() const { return count_; }

 private:
  static constexpr size_t kRows = 8195;  // the last vector is in part

  const Kernel<T>& kernel_;
  std::vector<float> values_;
  int64_t count_ = 0;
};

template <typename T>
void check_writing(const KernelTable& table, int64_t stride) {
  Writing<T> writing(table);
  for (int64_t bits = 0; bits < int64_t(1) << 32; bits += stride)
    writing.add(bits_of<float>(uint32_t(bits)));
  // Each number itself, the middle between it and the next, and the floats beside both. What comes
  // after the largest is infinite, but for rounding it is as far away as the one before.
  constexpr int kInfinite = ((1 << (15 - Type<T>::kFraction)) - 1) << Type<T>::kFraction;
  for (int i = 0; i < kInfinite; ++i) {
    const double number = Type<T>::value(T{uint16_t(i)});
    const double before = i ? Type<T>::value(T{uint16_t(i - 1)}) : 0;
    const double next = i + 1 < kInfinite ? Type<T>::value(T{uint16_t(i + 1)}) : 2 * number - before;
    for (float value : {float(number), float((number + next) / 2)})
      for (float beside : {value, nextafterf(value, INFINITY), nextafterf(value, -INFINITY)}) {
        writing.add(beside);
        writing.add(-beside);
      }
  }
  writing.flush();
  printf("%s: %lld floats written\n", Type<T>::kName, (long long)writing.count());
}

}  // namespace checking

int main(int, char** arguments) {
  using namespace checking;
  const KernelTable& table = table_of(arguments[1]);
  const int64_t stride = atoll(arguments[2]);
  check_reading<Half>(table);
  check_reading<BFloat16>(table);
  check_writing<Half>(table, stride);
  check_writing<BFloat16>(table, stride);
  return finish();
}
