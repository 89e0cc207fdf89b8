// All kernels of a level, of all types, on random and adversarial rows: against the formulas in
// long double; in parts; in place. Made for the address and undefined behaviour sanitizers.
//
//     kernels LEVEL

#include <vector>

#include "checking.h"
#include "reference.h"

namespace checking {

constexpr int64_t kBlock = tf1xent::kBlock;
constexpr int64_t kPiece = tf1xent::kPiece;

// How far the worst result was off, in parts of what it may be.
double worst[kKinds];

// --- Inputs -----------------------------------------------------------------------------------------

enum RowKind {
  kNormal,
  kEqual,
  kFarApart,
  kMasked,
  kConfident,
  kSubnormal,
  kVanishing,  // exponentials are subnormal
  kOneNaN,
  kOneInfinite,
  kAllMasked,
  kAllNaN,
  kAscending,
  kDescending,
  kLastOnly,  // the others are masked
  kMaskedAndNaN,
  kTwoEqual,
  kRowKinds
};

template <typename T>
void fill_logits(T* x, int64_t size, int kind, Random& random) {
  typedef Type<T> N;
  const double cutoff = sizeof(T) == 8 ? 745 : 104;
  const double level = random.normal();
  for (int64_t j = 0; j < size; ++j) {
    double value = 3 * random.normal();
    switch (kind) {
      case kEqual: value = level; break;
      case kFarApart: value = random.uniform(-N::kFar, N::kFar); break;
      case kMasked: if (random.below(3) == 0) value = -INFINITY; break;
      case kSubnormal: value = ldexp(double(random.below(99) - 49), N::kLeastExponent); break;
      case kVanishing: value = -random.uniform(cutoff - 20, cutoff + 3); break;
      case kAllMasked: case kLastOnly: case kMaskedAndNaN: value = -INFINITY; break;
      case kAllNaN: value = -NAN; break;
      case kAscending: value = 50 * double(j) / double(size); break;
      case kDescending: value = -50 * double(j) / double(size); break;
      default: break;
    }
    x[j] = N::nearest(value);
  }
  T& one = x[random.below(size)];
  if (kind == kConfident) one = N::nearest(random.uniform(15, 60));
  if (kind == kVanishing) one = N::nearest(0);
  if (kind == kOneNaN || kind == kMaskedAndNaN) one = N::nearest(NAN);
  if (kind == kOneInfinite) one = N::nearest(INFINITY);
  if (kind == kLastOnly) x[size - 1] = N::nearest(2);
  if (kind == kTwoEqual) one = x[random.below(size)] = N::nearest(20);
}

template <typename T>
void fill_distribution(T* l, int64_t size, int64_t kind, Random& random) {
  typedef Type<T> N;
  for (int64_t j = 0; j < size; ++j) {
    double value = random.uniform(0, 2) / double(size);
    if (kind == 1) value = 0;                                            // one class has it all
    if (kind == 2) value = random.below(2) ? random.uniform(0, 1) : 0;   // of any sum
    if (kind == 3) value = random.normal();                              // of any sign
    l[j] = N::nearest(value);
  }
  if (kind == 1) l[random.below(size)] = N::nearest(1);
  if (kind == 4) l[random.below(size)] = N::nearest(NAN);
}

template <typename T>
void fill_vector(T* v, int64_t size, int64_t kind, Random& random) {
  typedef Type<T> N;
  for (int64_t j = 0; j < size; ++j) {
    double value = random.normal();
    if (kind == 1) value = 1;
    if (kind == 2) value = 0;  // but for one class
    if (kind == 3) value = 1e3 + random.uniform(0, 1);
    v[j] = N::nearest(value);
  }
  if (kind == 2) v[random.below(size)] = N::nearest(1);
  if (kind == 4) v[random.below(size)] = N::nearest(NAN);
}

int64_t some_label(int64_t size, bool wide, Random& random) {
  const int64_t narrow_bad[] = {-1, size, INT32_MIN, INT32_MAX};
  const int64_t wide_bad[] = {-1, size, (int64_t(1) << 32) + 1, INT64_MIN, INT64_MAX};
  if (random.below(5)) return random.below(size);
  return wide ? wide_bad[random.below(5)] : narrow_bad[random.below(4)];
}

// --- One case ---------------------------------------------------------------------------------------

template <typename T>
class Case {
  typedef Precise<T> P;

 public:
  Case(int64_t rows, int64_t num_classes, int skipped, uint64_t seed)
      : rows_(rows),
        num_classes_(num_classes),
        skipped_(skipped),
        logits_(rows * num_classes, skipped),
        distributions_(rows * num_classes, skipped),
        vectors_(rows * num_classes, skipped),
        scale_(rows, skipped),
        narrow_labels_(rows),
        wide_labels_(rows) {
    Random random{seed};
    const int64_t first = random.below(kRowKinds);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t begin = row * num_classes;
      fill_logits(logits_.data() + begin, num_classes, int((first + row) % kRowKinds), random);
      fill_distribution(distributions_.data() + begin, num_classes,
                        random.below(20) ? random.below(4) : 4, random);
      fill_vector(vectors_.data() + begin, num_classes, random.below(20) ? random.below(4) : 4,
                  random);
      scale_[row] = P(random.below(8) ? random.uniform(-2, 2) : 1);
      narrow_labels_[row] = int32_t(some_label(num_classes, false, random));
      wide_labels_[row] = some_label(num_classes, true, random);
      references_.emplace_back(num_classes, logits_.data() + begin, narrow_labels_[row],
                               wide_labels_[row], distributions_.data() + begin,
                               vectors_.data() + begin, scale_[row]);
    }
  }

  void check(const KernelTable& table) {
    for (int wide = 0; wide < 2; ++wide) {
      Array<P> loss(rows_, skipped_);
      Array<P> statistics(rows_ * tf1xent::kSparseStatistics, skipped_);
      check_loss(table, kSparseLoss, wide, loss, statistics);
      check_matrix(table, kSparseGradient, wide, statistics);
      check_matrix(table, kSparseProduct, wide, statistics);
    }
    Array<P> loss(rows_, skipped_);
    Array<P> statistics(rows_ * tf1xent::kDenseStatistics, skipped_);
    check_loss(table, kDenseLoss, false, loss, statistics);
    check_matrix(table, kDenseGradient, false, statistics);
    check_matrix(table, kLabelGradient, false, statistics);
    check_matrix(table, kDenseProduct, false, statistics);
  }

 private:
  KernelArguments<T> arguments(bool wide) const {
    KernelArguments<T> p = {};
    p.rows = rows_;
    p.num_classes = num_classes_;
    p.logits = logits_.data();
    p.labels.data = wide ? static_cast<const void*>(wide_labels_.data()) : narrow_labels_.data();
    p.labels.wide = wide;
    p.distributions = distributions_.data();
    p.vectors = vectors_.data();
    p.scale = scale_.data();
    return p;
  }

  void name_case(int kind, const char* what) const {
    fail("%s of %s, %lld rows of %lld classes, %d skipped: %s", kKindNames[kind], Type<T>::kName,
         (long long)rows_, (long long)num_classes_, skipped_, what);
  }

  void check_loss(const KernelTable& table, int kind, bool wide, Array<P>& loss, Array<P>& statistics) {
    const Kernel<T>& kernel = kernel_of<T>(table, kind);
    KernelArguments<T> p = arguments(wide);
    p.loss = loss.data();
    p.statistics_out = statistics.data();
    kernel.rows(p, 0, rows_);

    // The last rows, then the first ones: the same numbers, and no row more than was asked for.
    Array<P> parts(rows_, skipped_), parts_statistics(statistics.size(), skipped_);
    const Array<P> untouched(parts);
    const int64_t split = rows_ / 3;
    p.loss = parts.data();
    p.statistics_out = parts_statistics.data();
    kernel.rows(p, split, rows_);
    if (!parts.same(untouched, 0, split)) name_case(kind, "wrote to rows before its own");
    kernel.rows(p, 0, split);
    if (!(parts == loss)) name_case(kind, "in parts it is another");
    if (!(parts_statistics == statistics)) name_case(kind, "in parts the statistics are others");

    for (int64_t row = 0; row < rows_; ++row)
      compare(kind, row, -1, double(loss[row]), references_[row].loss(kind, wide));
  }

  void check_matrix(const KernelTable& table, int kind, bool wide, const Array<P>& statistics) {
    const Kernel<T>& kernel = kernel_of<T>(table, kind);
    KernelArguments<T> p = arguments(wide);
    p.statistics = statistics.data();
    Array<T> whole(logits_.size(), skipped_), parts(logits_.size(), skipped_);
    const Array<T> untouched(parts);
    p.output = whole.data();
    kernel.rows(p, 0, rows_);

    p.output = parts.data();
    const int64_t split = rows_ / 3;
    kernel.rows(p, split, rows_);
    if (!parts.same(untouched, 0, split * num_classes_))
      name_case(kind, "wrote to rows before its own");
    kernel.rows(p, 0, split);
    if (!(parts == whole)) name_case(kind, "in parts it is another");

    Array<T> streamed(logits_.size(), skipped_);
    p.output = streamed.data();
    p.streams = true;
    kernel.rows(p, 0, rows_);
    if (!(streamed == whole)) name_case(kind, "past the caches it is another");
    p.streams = false;

    Array<T> logits(logits_);
    p.logits = p.output = logits.data();
    kernel.rows(p, 0, rows_);
    if (!(logits == whole)) name_case(kind, "in place of the logits it is another");
    p.logits = logits_.data();
    if (const T* KernelArguments<T>::*second = second_place<T>(kind)) {
      Array<T> other(logits_);
      memcpy(static_cast<void*>(other.data()), p.*second, other.size() * sizeof(T));
      p.*second = p.output = other.data();
      kernel.rows(p, 0, rows_);
      if (!(other == whole)) name_case(kind, "in place of the labels or vectors it is another");
    }

    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t j = 0; j < num_classes_; ++j)
        compare(kind, row, j, Type<T>::value(whole[row * num_classes_ + j]),
                references_[row].entry(kind, wide, j));
  }

  void compare(int kind, int64_t row, int64_t j, double got, const Expected& want) {
    double off = want.off(got);
    if (!(off <= 1)) {
      fail("%s of %s, %lld rows of %lld classes, %d skipped: row %lld, class %lld: got %.9g, "
           "right is %.9Lg, allowed %.2Lg, %.3g times that",
           kKindNames[kind], Type<T>::kName, (long long)rows_, (long long)num_classes_, skipped_,
           (long long)row, (long long)j, got, want.value, want.allowed, off);
      print_row(row);
    }
    if (off > worst[kind]) worst[kind] = off;
  }

  void print_row(int64_t row) const {
    if (findings > 5) return;
    printf("  label %lld or %lld, scale %.9g, logits", (long long)narrow_labels_[row],
           (long long)wide_labels_[row], double(scale_[row]));
    for (int64_t j = 0; j < num_classes_ && j < 8; ++j)
      printf(" %.9g", Type<T>::value(logits_[row * num_classes_ + j]));
    printf("\n");
  }

  const int64_t rows_, num_classes_;
  const int skipped_;
  const Array<T> logits_, distributions_, vectors_;
  const Array<P> scale_;
  const Array<int32_t> narrow_labels_;
  const Array<int64_t> wide_labels_;
  std::vector<Reference<T>> references_;
};

template <typename T>
void check_type(const KernelTable& table) {
  for (double& off : worst) off = 0;
  uint64_t seed = 1;
  int skipped = 0;
  const auto check = [&](int64_t rows, int64_t num_classes) {
    Case<T>(rows, num_classes, skipped, seed++).check(table);
    skipped = (skipped + 1) % 3;
  };
  for (int64_t rows : {0, 1, 2, 7, 8, 9, 15, 16, 17, 33}) check(rows, 10);
  for (int64_t rows : {0, 1}) check(rows, 3 * kPiece + 5);
  for (int64_t num_classes : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 66, 127, 128,
                              129, 130, 255, 1000})
    check(kRowKinds + 3, num_classes);
  for (int64_t num_classes : {kBlock - 1, kBlock, kBlock + 1}) check(kRowKinds, num_classes);
  for (int64_t num_classes : {kPiece - 1, kPiece, kPiece + 1}) check(4, num_classes);
  check(sizeof(T) == 4 ? kRowKinds : 4, 3 * kPiece + 5);
  printf("%s, worst in parts of what is allowed:", Type<T>::kName);
  for (int kind = 0; kind < kKinds; ++kind) printf(" %s %.2f;", kKindNames[kind], worst[kind]);
  printf("\n");
}

}  // namespace checking

int main(int, char** arguments) {
  using namespace checking;
  const KernelTable& table = table_of(arguments[1]);
  check_type<float>(table);
  check_type<double>(table);
  check_type<Half>(table);
  check_type<BFloat16>(table);
  // More pieces than have room on the stack.
  Case<float>(1, 64 * kPiece + 5, 1, 99).check(table);
  return finish();
}
