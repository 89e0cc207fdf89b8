// The choice among the levels that are compiled in, by what the processor has.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(TF1XENT_X86)
#include <cpuid.h>
#endif

#include "table.h"

namespace tf1xent {

namespace baseline {
const KernelTable& table();
}
#if defined(TF1XENT_X86)
namespace avx2 {
const KernelTable& table();
}
namespace avx512 {
const KernelTable& table();
}
#endif

namespace {

const KernelTable& best_of(const char* highest) {
  const auto allowed = [&](const char* level) { return !highest || strcmp(highest, level) == 0; };
#if defined(TF1XENT_X86)
  unsigned int eax, ebx, ecx = 0, edx;
  const bool has_f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  const bool has_avx2 =
      has_f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && allowed("avx512")) return avx512::table();
  if (has_avx2 && (allowed("avx512") || allowed("avx2"))) return avx2::table();
#endif
  return baseline::table();
}

const KernelTable& choose() {
  const char* wish = getenv("TF1XENT_KERNEL_LEVEL");
  const KernelTable& table = best_of(wish);
  if (wish && strcmp(wish, table.level) != 0)
    fprintf(stderr, "TF1XENT_KERNEL_LEVEL is %s; the kernels use %s, the best up to it here.\n", wish,
            table.level);
  return table;
}

}  // namespace

const KernelTable& best_table() {
  static const KernelTable& table = choose();
  return table;
}

}  // namespace tf1xent

// For the Python side, which asks by ctypes.
extern "C" __attribute__((visibility("default"))) const char* tf1xent_kernel_level() {
  return tf1xent::best_table().level;
}
