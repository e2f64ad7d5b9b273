/* The cases of fuzz_interface.c that no coverage leads: the same ones each time. */
#include <stdint.h>

#include "check.h"
#include "fuzz_interface.h"

enum { CASES = 3000, LONGEST = 400 };

int main(void) {
    uint32_t state = 7;
    static uint8_t data[LONGEST];
    for (int i = 0; i < CASES; ++i) {
        const size_t size = 40 + (size_t)(next_uniform(&state) * (float)(LONGEST - 40));
        for (size_t k = 0; k < size; ++k) data[k] = (uint8_t)(next_uniform(&state) * 256.0f);
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
