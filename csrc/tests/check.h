/* A test is a program that says what failed, and where, and then exits with 1. */
#ifndef RSTPM_TESTS_CHECK_H
#define RSTPM_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

/* That a call gives a status; says which it gave instead. */
#define EXPECT(expected, call)                                                                       \
    do {                                                                                             \
        const int status_ = (int)(call);                                                             \
        if (status_ != (int)(expected)) {                                                            \
            fprintf(stderr, "%s:%d: %s gives %d (%s), not %s\n", __FILE__, __LINE__, #call, status_, \
                    rstpm_status_message(status_), #expected);                                       \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

/* The same numbers everywhere: uniform in [0, 1). */
static inline float next_uniform(uint32_t* state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 16777216.0f;
}

#endif
