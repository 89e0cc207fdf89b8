// The choice among the levels that are compiled in, by what the processor has.

#include <stdlib.h>
#include <string.h>

#include "table.h"

namespace tf1xent {

namespace baseline {
const Table& table();
}
#if defined(TF1XENT_X86)
namespace avx2 {
const Table& table();
}
namespace avx512 {
const Table& table();
}
#endif

namespace {

const Table& choose() {
  const char* wish = getenv("TF1XENT_KERNEL_LEVEL");
  const bool any = wish == nullptr;
#if defined(TF1XENT_X86)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && (any || strcmp(wish, "avx512") == 0)) return avx512::table();
  if (has_avx2 && (any || strcmp(wish, "baseline") != 0)) return avx2::table();
#endif
  return baseline::table();
}

}  // namespace

const Table& best_table() {
  static const Table& table = choose();
  return table;
}

}  // namespace tf1xent

// For the Python side, which asks by ctypes.
extern "C" __attribute__((visibility("default"))) const char* tf1xent_kernel_level() {
  return tf1xent::best_table().level;
}
