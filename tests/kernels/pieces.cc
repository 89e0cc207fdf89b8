// Rows shared out over threads, whole or in pieces: the same numbers to the last bit as in one go,
// and NaN where that is NaN. Made for the thread sanitizer too.
//
//     pieces LEVEL all|few

#include <functional>
#include <thread>
#include <vector>

#include "checking.h"
#include "sharing.h"

namespace checking {

constexpr int64_t kPiece = tf1xent::kPiece;

typedef std::function<void(int64_t, int64_t)> Work;

// Ranges of about equal size, each in a thread of its own.
void in_threads(int64_t total, int threads, const Work& work) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    const int64_t begin = total * i / threads, end = total * (i + 1) / threads;
    if (begin < end) running.emplace_back([&work, begin, end] { work(begin, end); });
  }
  for (std::thread& thread : running) thread.join();
}

// Row by row in pieces, the last piece first: none may depend on what is computed before it.
template <typename T>
void backwards(const Kernel<T>& kernel, const KernelArguments<T>& p) {
  const int64_t pieces = (p.num_classes + kPiece - 1) / kPiece;
  std::vector<tf1xent::Partial<T>> partials(pieces);
  std::vector<Precise<T>> kept(p.num_classes);
  const bool beside = sizeof(T) != sizeof(Precise<T>);
  for (auto& partial : partials) partial.kept = beside ? kept.data() : nullptr;
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int stage = 0; stage < kernel.stages; ++stage) {
      for (int64_t i = pieces; i-- > 0;) kernel.piece(p, stage, row, i, partials.data());
      if (!kernel.combine(p, stage, row, pieces, partials.data())) ++stage;
    }
  }
}

// Where the result is written.
enum Place { kOwn, kLogits, kSecond, kPlaces };
const char* const kPlaceNames[] = {"its own place", "place of the logits",
                                   "place of the labels or vectors"};

template <typename T>
class Case {
  typedef Precise<T> P;

 public:
  Case(int64_t rows, int64_t num_classes)
      : rows_(rows),
        num_classes_(num_classes),
        logits_(rows * num_classes),
        distributions_(rows * num_classes),
        vectors_(rows * num_classes),
        scale_(rows),
        labels_(rows) {
    Random random{uint64_t(rows + num_classes)};
    for (int64_t i = 0; i < rows * num_classes; ++i) {
      logits_[i] = Type<T>::nearest(random.uniform(-5, 5));
      distributions_[i] = Type<T>::nearest(random.uniform(0, 2) / double(num_classes));
      vectors_[i] = Type<T>::nearest(random.uniform(-2, 2));
    }
    for (int64_t row = 0; row < rows; ++row) {
      scale_[row] = P(random.uniform(-2, 2));
      labels_[row] = random.below(num_classes);
    }
    labels_[0] = -1;
    if (rows > 1) {
      // A row with one large logit: differences to the pivot's are taken.
      logits_[2 * num_classes - 7] = Type<T>::nearest(40);
      labels_[1] = num_classes - 7;
    }
    if (rows > 2) logits_[3 * num_classes - 3] = Type<T>::nearest(NAN);
  }

  void check(const KernelTable& table) {
    for (int kind = 0; kind < kKinds; ++kind) {
      if (is_loss(kind)) statistics_ = run_loss(table, kind, nullptr, 1);
      for (int place = kOwn; place < kPlaces; ++place) {
        if (is_loss(kind) && place != kOwn) continue;
        if (place == kSecond && second_place<T>(kind) == nullptr) continue;
        const std::vector<uint64_t> whole = run(table, kind, place, nullptr, 1);
        for (int threads : {1, 2, 3, 8})
          if (run(table, kind, place, in_threads, threads) != whole)
            differs(kind, place, threads, "threads");
        if (num_classes_ > kPiece && run(table, kind, place, nullptr, 0) != whole)
          differs(kind, place, 0, "threads, pieces backwards");
      }
    }
  }

 private:
  typedef void (*For)(int64_t, int, const Work&);

  void differs(int kind, int place, int threads, const char* what) const {
    fail("%s of %s in %s, %lld rows of %lld classes: differs with %d %s", kKindNames[kind],
         Type<T>::kName, kPlaceNames[place], (long long)rows_, (long long)num_classes_, threads,
         what);
  }

  // All rows in one go where `share` is null, and pieces backwards where there are no threads.
  void compute(const KernelTable& table, int kind, const KernelArguments<T>& p, For share,
               int threads) const {
    const Kernel<T>& kernel = kernel_of<T>(table, kind);
    if (threads == 0) return backwards(kernel, p);
    if (share == nullptr) return kernel.rows(p, 0, rows_);
    tf1xent::compute(kernel, p, threads, [&](int64_t total, int64_t, const Work& work) {
      share(total, threads, work);
    });
  }

  KernelArguments<T> arguments() const {
    KernelArguments<T> p = {};
    p.rows = rows_;
    p.num_classes = num_classes_;
    p.logits = logits_.data();
    p.labels.data = labels_.data();
    p.labels.wide = true;
    p.distributions = distributions_.data();
    p.vectors = vectors_.data();
    p.scale = scale_.data();
    p.statistics = statistics_.data();
    return p;
  }

  std::vector<P> run_loss(const KernelTable& table, int kind, For share, int threads) const {
    std::vector<P> result(rows_ * (statistics_of(kind) + 1));
    KernelArguments<T> p = arguments();
    p.statistics_out = result.data();
    p.loss = result.data() + rows_ * statistics_of(kind);
    compute(table, kind, p, share, threads);
    return result;
  }

  // The bits of the result.
  std::vector<uint64_t> run(const KernelTable& table, int kind, int place, For share,
                            int threads) const {
    if (is_loss(kind)) {
      const std::vector<P> result = run_loss(table, kind, share, threads);
      return bits(result.data(), int64_t(result.size()));
    }
    KernelArguments<T> p = arguments();
    const T* KernelArguments<T>::*const replaced = place == kSecond ? second_place<T>(kind)
                                                            : &KernelArguments<T>::logits;
    Array<T> output(logits_.size());
    p.output = output.data();
    if (place != kOwn) {
      memcpy(static_cast<void*>(output.data()), p.*replaced, output.size() * sizeof(T));
      p.*replaced = output.data();
    }
    compute(table, kind, p, share, threads);
    return bits(output.data(), output.size());
  }

  // As doubles, which all types fit in: of NaN the sign and the rest are the compiler's choice.
  template <typename Number>
  static std::vector<uint64_t> bits(const Number* numbers, int64_t size) {
    std::vector<uint64_t> all(size);
    for (int64_t i = 0; i < size; ++i) {
      const double value = Type<Number>::value(numbers[i]);
      all[i] = value == value ? bits_of<uint64_t>(value) : UINT64_MAX;
    }
    return all;
  }

  const int64_t rows_, num_classes_;
  const Array<T> logits_, distributions_, vectors_;
  const Array<P> scale_;
  const Array<int64_t> labels_;
  std::vector<P> statistics_;
};

template <typename T>
void check_type(const KernelTable& table) {
  Case<T>(1, 3 * kPiece + 5).check(table);
  Case<T>(2, 70001).check(table);
  Case<T>(3, 2 * kPiece).check(table);
  Case<T>(5, kPiece + 1).check(table);
  Case<T>(70, 30).check(table);
}

}  // namespace checking

int main(int, char** arguments) {
  using namespace checking;
  const KernelTable& table = table_of(arguments[1]);
  check_type<float>(table);
  if (strcmp(arguments[2], "few") == 0) return finish();
  check_type<double>(table);
  check_type<Half>(table);
  check_type<BFloat16>(table);
  return finish();
}
