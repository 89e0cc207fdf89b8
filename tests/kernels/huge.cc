// Places beyond 2^31 in a matrix: the last rows of very many, the last classes of very many. What
// is computed there has to be what the same numbers give in a small matrix.
//
//     huge LEVEL
//
// The matrices are of memory that is promised only; but for the pages that are used nothing is there.

#include <sys/mman.h>

#include <vector>

#include "checking.h"

namespace checking {

constexpr int64_t kPiece = tf1xent::kPiece;

// Memory that reads as zeros, and is there only where it is written to.
template <typename T>
class Region {
 public:
  explicit Region(int64_t size) : bytes_(size * sizeof(T)) {
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      printf("this system does not promise %lld MB of memory\n", (long long)(bytes_ >> 20));
      exit(kNotHere);
    }
#if defined(MADV_NOHUGEPAGE)
    madvise(memory, bytes_, MADV_NOHUGEPAGE);
#endif
    data_ = static_cast<T*>(memory);
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { munmap(data_, bytes_); }

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  int64_t bytes_;
  T* data_;
};

// All memory that kernels read and write.
template <typename T>
struct Matrices {
  typedef Precise<T> P;

  Matrices(int64_t all_rows, int64_t classes)
      : rows(all_rows),
        num_classes(classes),
        logits(rows * classes),
        distributions(rows * classes),
        vectors(rows * classes),
        output(rows * classes),
        labels(rows),
        scale(rows),
        loss(rows),
        statistics(rows * tf1xent::kDenseStatistics) {}

  KernelArguments<T> arguments() const {
    KernelArguments<T> p = {};
    p.rows = rows;
    p.num_classes = num_classes;
    p.logits = logits.data();
    p.labels.data = labels.data();
    p.labels.wide = true;
    p.distributions = distributions.data();
    p.vectors = vectors.data();
    p.scale = scale.data();
    p.statistics = statistics.data();
    p.loss = loss.data();
    p.statistics_out = statistics.data();
    p.output = output.data();
    return p;
  }

  // Random numbers for `count` entries from one on.
  void fill(int64_t begin, int64_t count) {
    Random random{uint64_t(count)};
    for (int64_t i = begin; i < begin + count; ++i) {
      logits[i] = Type<T>::nearest(3 * random.normal());
      distributions[i] = Type<T>::nearest(random.uniform(0, 1));
      vectors[i] = Type<T>::nearest(random.normal());
    }
  }

  const int64_t rows, num_classes;
  Region<T> logits, distributions, vectors, output;
  Region<int64_t> labels;
  Region<P> scale, loss, statistics;
};

template <typename P>
bool same(const P* a, const P* b, int64_t size) {
  return memcmp(a, b, size * sizeof(P)) == 0;
}

template <typename T>
void check_many_rows(const KernelTable& table, int64_t rows, int64_t num_classes) {
  const int64_t last = 37, first = rows - last;
  Matrices<T> all(rows, num_classes), few(last, num_classes);
  all.fill(first * num_classes, last * num_classes);
  few.fill(0, last * num_classes);
  for (int64_t row = 0; row < last; ++row) {
    all.labels[first + row] = few.labels[row] = row % num_classes;
    all.scale[first + row] = few.scale[row] = 0.5f + float(row);
  }
  for (int kind = 0; kind < kKinds; ++kind) {
    const Kernel<T>& kernel = kernel_of<T>(table, kind);
    kernel.rows(all.arguments(), first, rows);
    kernel.rows(few.arguments(), 0, last);
    bool right = true;
    if (is_loss(kind)) {
      right = same(&all.loss[first], &few.loss[0], last);
      for (int i = 0; i < statistics_of(kind); ++i)
        right &= same(&all.statistics[i * rows + first], &few.statistics[i * last], last);
    } else {
      right = same(&all.output[first * num_classes], &few.output[0], last * num_classes);
    }
    if (!right)
      fail("%s of %s: the last of %lld rows of %lld classes are others than the same rows alone",
           kKindNames[kind], Type<T>::kName, (long long)rows, (long long)num_classes);
  }
}

// Two rows, of which all but the last classes of the second are logits of 0, labels of 0 and
// vectors of 0. Pieces like that are computed once, and taken to be all but the last.
template <typename T>
void check_many_classes(const KernelTable& table, int64_t pieces) {
  const int64_t tail = 1001, num_classes = (pieces - 1) * kPiece + tail, row = 1;
  Matrices<T> all(2, num_classes), few(1, kPiece + tail);
  const int64_t begin = (row + 1) * num_classes - tail;
  all.fill(begin, tail);
  few.fill(kPiece, tail);
  all.labels[row] = num_classes - 5;
  few.labels[0] = kPiece + tail - 5;
  all.scale[row] = few.scale[0] = 1.5;

  std::vector<tf1xent::Partial<T>> partials(pieces), few_partials(2);
  const Region<Precise<T>> kept(num_classes), few_kept(few.num_classes);
  for (int kind = 0; kind < kKinds; ++kind) {
    const Kernel<T>& kernel = kernel_of<T>(table, kind);
    const KernelArguments<T> p = all.arguments();
    KernelArguments<T> q = few.arguments();
    for (int i = 0; i < statistics_of(kind); ++i)
      few.statistics[i] = all.statistics[i * all.rows + row];
    for (auto& partial : partials) partial.kept = kept.data();
    for (auto& partial : few_partials) partial.kept = few_kept.data();
    for (int stage = 0; stage < kernel.stages; ++stage) {
      kernel.piece(p, stage, row, 0, partials.data());
      for (int64_t i = 1; i < pieces - 1; ++i) partials[i] = partials[0];
      kernel.piece(p, stage, row, pieces - 1, partials.data());
      // Of the few, the last piece with what all have in common.
      few_partials[1] = partials[pieces - 1];
      if (!is_loss(kind)) kernel.piece(q, stage, 0, 1, few_partials.data());
      kernel.combine(p, stage, row, pieces, partials.data());
      few_partials[1] = partials[pieces - 1];
    }
    if (is_loss(kind)) {
      check_loss(kind, all, row, begin, tail);
    } else if (!same(&all.output[begin], &few.output[kPiece], tail)) {
      fail("%s of %s: the last of %lld classes are others than the same alone", kKindNames[kind],
           Type<T>::kName, (long long)num_classes);
    }
  }
}

template <typename T>
void check_loss(int kind, const Matrices<T>& all, int64_t row, int64_t begin, int64_t tail) {
  double total = double(all.num_classes - tail), label_sum = 0, at_labels = 0;
  for (int64_t i = begin; i < begin + tail; ++i) {
    const double l = Type<T>::value(all.distributions[i]);
    total += exp(Type<T>::value(all.logits[i]));
    label_sum += l;
    at_labels += l * Type<T>::value(all.logits[i]);
  }
  const double at_label = Type<T>::value(all.logits[row * all.num_classes + all.labels[row]]);
  const double want =
      kind == kSparseLoss ? log(total) - at_label : label_sum * log(total) - at_labels;
  const double got = all.loss[row];
  // The contract: what adding up so many numbers in float may cost.
  if (!(fabs(got - want) <= want * sqrt(double(all.num_classes)) * power(-24)))
    fail("%s of %s, %lld classes: %.9g, right is %.9g", kKindNames[kind], Type<T>::kName,
         (long long)all.num_classes, got, want);
}

}  // namespace checking

int main(int, char** arguments) {
  using namespace checking;
  const KernelTable& table = table_of(arguments[1]);
  const int64_t beyond = int64_t(1) << 31;
  check_many_rows<BFloat16>(table, (int64_t(1) << 28) + 3, 10);
  check_many_rows<float>(table, beyond + 5, 3);
  check_many_rows<Half>(table, beyond / 2999 + 50, 2999);
  check_many_classes<BFloat16>(table, beyond / kPiece + 2);
  check_many_classes<float>(table, beyond / kPiece + 2);
  return finish();
}
