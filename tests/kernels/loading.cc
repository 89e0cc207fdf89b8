// A library with the kernels must leave the process's arithmetic as it was: numbers below the
// smallest normal one are numbers, before and after it is loaded.
//
//     loading LIBRARY

#include <dlfcn.h>
#include <float.h>
#include <stdio.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace {

volatile float half = 0.5f, smallest = FLT_MIN, least = FLT_MIN * FLT_EPSILON, one = 1;
volatile double half_double = 0.5, smallest_double = DBL_MIN;

// Made by arithmetic; and taken by it.
bool subnormals_survive() {
  return smallest * half != 0 && least * one != 0 && smallest_double * half_double != 0;
}

}  // namespace

int main(int, char** arguments) {
  if (!subnormals_survive()) return puts("FAILED: no subnormal numbers even before loading"), 1;
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return printf("FAILED: %s\n", dlerror()), 1;
  if (dlsym(library, "tf1xent_kernel_level") == nullptr) return printf("FAILED: %s\n", dlerror()), 1;
  if (!subnormals_survive()) return puts("FAILED: the library flushes subnormals to zero"), 1;
#if defined(__SSE__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // what a library linked with -ffast-math would do
  if (subnormals_survive()) return puts("FAILED: this test does not see flushing to zero"), 1;
#endif
  return 0;
}
