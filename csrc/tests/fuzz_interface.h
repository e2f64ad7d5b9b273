/* What libFuzzer calls with each case. */
#ifndef RSTPM_TESTS_FUZZ_INTERFACE_H
#define RSTPM_TESTS_FUZZ_INTERFACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
