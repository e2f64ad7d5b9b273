/* Every wrong argument gives its status, every status has its message, and nothing is written. */
#define _POSIX_C_SOURCE 200112L

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rstpm_edge.h"

/* A sanitizer's shadow memory is larger than any limit. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

enum { SIDE = 8, VALUES = SIDE * SIDE };

static rstpm_fusion_config good_config(void) {
    rstpm_fusion_config config = {.struct_size = sizeof config, .height = SIDE, .width = SIDE};
    for (int level = 0; level < RSTPM_LEVELS; ++level)
        config.level_height[level] = config.level_width[level] = SIDE >> level;
    for (int i = 0; i < RSTPM_MAPS; ++i) config.std[i] = config.weight[i] = 1.0f;
    return config;
}

static void create_gives(rstpm_status expected, const rstpm_fusion_config* config) {
    int something = 0;
    rstpm_fusion* fusion = (rstpm_fusion*)(void*)&something;
    EXPECT(expected, rstpm_fusion_create(config, &fusion));
    CHECK((fusion == NULL) == (expected != RSTPM_OK));
    rstpm_fusion_destroy(fusion);
}

static void test_messages(void) {
    for (int status = RSTPM_OK; status <= RSTPM_BAD_VERSION; ++status) {
        const char* message = rstpm_status_message(status);
        CHECK(message != NULL && strlen(message) > 5);
        CHECK(strcmp(message, rstpm_status_message(-1)) != 0);
        for (int other = RSTPM_OK; other < status; ++other)
            CHECK(strcmp(message, rstpm_status_message(other)) != 0);
    }
    const int32_t unknown[] = {-1, RSTPM_BAD_VERSION + 1, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 4; ++i) CHECK(strcmp(rstpm_status_message(unknown[i]), "unknown status") == 0);
    CHECK(strcmp(rstpm_version(), RSTPM_VERSION) == 0);
}

static void test_create(void) {
    rstpm_fusion* fusion = NULL;
    rstpm_fusion_config config = good_config();
    create_gives(RSTPM_OK, &config);
    create_gives(RSTPM_BAD_ARGUMENT, NULL);
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_create(&config, NULL));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_create(NULL, NULL));
    rstpm_fusion_destroy(NULL);

    const uint32_t sizes[] = {0, sizeof config - 4, sizeof config + 4, UINT32_MAX};
    for (int i = 0; i < 4; ++i) {
        config = good_config();
        config.struct_size = sizes[i];
        create_gives(RSTPM_BAD_VERSION, &config);
    }
    memset(&config, 0, sizeof config);
    create_gives(RSTPM_BAD_VERSION, &config);
    memset(&config, 0xff, sizeof config);
    create_gives(RSTPM_BAD_VERSION, &config);

    const int32_t sides[] = {0, -1, RSTPM_MAX_SIDE + 1, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 5; ++i) {
        for (int field = 0; field < 2 + 2 * RSTPM_LEVELS; ++field) {
            config = good_config();
            int32_t* all[] = {&config.height,          &config.width,           &config.level_height[0],
                              &config.level_height[1], &config.level_height[2], &config.level_width[0],
                              &config.level_width[1],  &config.level_width[2]};
            *all[field] = sides[i];
            create_gives(RSTPM_BAD_SIZE, &config);
        }
    }

    const int32_t modes[] = {-1, 2, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 4; ++i) {
        config = good_config();
        config.mode = modes[i];
        create_gives(RSTPM_BAD_ARGUMENT, &config);
    }

    for (int i = 0; i < RSTPM_MAPS; ++i) {
        const float wrong_std[] = {0.0f, -1.0f, NAN, INFINITY, FLT_MIN / 2, 1e-30f};
        for (int j = 0; j < 6; ++j) {
            config = good_config();
            config.std[i] = wrong_std[j];
            create_gives(RSTPM_BAD_STATISTICS, &config);
            config.mode = RSTPM_PAPER; /* has no use for statistics */
            create_gives(RSTPM_OK, &config);
        }
        const float wrong[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1.001e24f};
        for (int j = 0; j < 6; ++j) {
            config = good_config();
            config.mean[i] = wrong[j];
            create_gives(RSTPM_BAD_STATISTICS, &config);
            config = good_config();
            config.weight[i] = wrong[j];
            create_gives(RSTPM_BAD_STATISTICS, &config);
        }
        config = good_config();
        config.weight[i] = FLT_MAX;
        config.std[i] = FLT_MIN;
        create_gives(RSTPM_BAD_STATISTICS, &config);
        config = good_config();
        config.mean[i] = -RSTPM_MAX_VALUE;
        config.std[i] = 1e-24f;
        create_gives(RSTPM_OK, &config);
    }

    const double sigmas[] = {-1.0,   NAN,     INFINITY, -INFINITY, 1e-200,
                             5e-324, 0.00999, 64.001,   DBL_MAX,   RSTPM_MAX_SIDE};
    for (int i = 0; i < 10; ++i) {
        config = good_config();
        config.height = RSTPM_MAX_SIDE;
        config.smoothing_sigma = sigmas[i];
        create_gives(RSTPM_BAD_SMOOTHING, &config);
    }
    config = good_config();
    config.smoothing_sigma = SIDE + 0.001;
    create_gives(RSTPM_BAD_SMOOTHING, &config);
    config.smoothing_sigma = RSTPM_MIN_SIGMA;
    create_gives(RSTPM_OK, &config);
    config.mode = RSTPM_PAPER;
    create_gives(RSTPM_BAD_SMOOTHING, &config);
    config.smoothing_sigma = 0.0;
    create_gives(RSTPM_OK, &config);
    config.mode = RSTPM_NORMALIZED;
    config.smoothing_sigma = RSTPM_MAX_SIGMA;
    config.height = RSTPM_MAX_SIDE;
    create_gives(RSTPM_OK, &config);

    config = good_config();
    config.kernel = "abacus";
    create_gives(RSTPM_UNKNOWN_KERNEL, &config);
    CHECK(rstpm_fusion_kernel(fusion) == NULL);
    CHECK(rstpm_fusion_last_kernel(fusion) == NULL);
}

static void test_kernels(void) {
    int known = 0, available = 0;
    rstpm_fusion_config config = good_config();
    for (; rstpm_known_kernel((size_t)known) != NULL; ++known) {
        int runs = 0;
        config.kernel = rstpm_known_kernel((size_t)known);
        for (size_t i = 0; rstpm_available_kernel(i) != NULL; ++i)
            runs = runs || strcmp(rstpm_available_kernel(i), config.kernel) == 0;
        create_gives(runs ? RSTPM_OK : RSTPM_UNSUPPORTED_KERNEL, &config);
        available += runs;
    }
    CHECK(0 < available && available < known); /* no processor has all of them */
    CHECK(rstpm_known_kernel(SIZE_MAX) == NULL && rstpm_available_kernel(SIZE_MAX) == NULL);

    const char* name = NULL;
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_default_kernel(NULL));
    unsetenv("RSTPM_EDGE_KERNEL");
    EXPECT(RSTPM_OK, rstpm_default_kernel(&name));
    CHECK(name != NULL && strcmp(name, rstpm_available_kernel((size_t)available - 1)) == 0);
    setenv("RSTPM_EDGE_KERNEL", "generic", 1);
    EXPECT(RSTPM_OK, rstpm_default_kernel(&name));
    CHECK(strcmp(name, "generic") == 0);
    setenv("RSTPM_EDGE_KERNEL", "abacus", 1);
    EXPECT(RSTPM_UNKNOWN_KERNEL, rstpm_default_kernel(&name));
    CHECK(name == NULL);
    config.kernel = NULL;
    create_gives(RSTPM_UNKNOWN_KERNEL, &config);
    unsetenv("RSTPM_EDGE_KERNEL");
}

static void test_run(void) {
    static float map[VALUES], out[VALUES];
    rstpm_image_result result = {0};
    rstpm_fusion* fusion = NULL;
    const rstpm_fusion_config config = good_config();
    EXPECT(RSTPM_OK, rstpm_fusion_create(&config, &fusion));
    const float* maps[RSTPM_MAPS] = {map, map, map, map, map, map};
    out[0] = result.score = 77.0f;

    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(NULL, maps, 1, out, &result, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, NULL, 1, out, &result, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, NULL, &result, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, out, NULL, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, -1, out, &result, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, INT64_MIN, out, &result, NULL, 0.0f, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, out, &result, NULL, 0.0f, 0));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, out, &result, NULL, 0.0f, INT32_MIN));
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        maps[i] = NULL;
        EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, out, &result, NULL, 0.0f, 1));
        maps[i] = map;
    }
    const int64_t too_many[] = {INT64_MAX, INT64_MAX / SIDE, INT64_MAX / VALUES,
                                PTRDIFF_MAX / 4 / VALUES + 1};
    for (int i = 0; i < 4; ++i) {
        EXPECT(RSTPM_BAD_SIZE, rstpm_fusion_run(fusion, maps, too_many[i], out, &result, NULL, 0.0f, 1));
        EXPECT(RSTPM_BAD_SIZE, rstpm_fusion_run(fusion, maps, too_many[i], out, &result, NULL, 0.0f, 8));
    }
    uint8_t mask[VALUES] = {0};
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_fusion_run(fusion, maps, 1, out, &result, mask, NAN, 1));
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps, 0, NULL, NULL, NULL, 0.0f, 1));
    CHECK(out[0] == 77.0f && result.score == 77.0f); /* none of these has written anything */
    CHECK(rstpm_fusion_last_kernel(fusion) == NULL);

    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps, 1, out, &result, NULL, 0.0f, 1));
    CHECK(out[0] == 0.0f && result.score == 0.0f && result.nonfinite == 0);
    rstpm_fusion_destroy(fusion);
}

static void test_resize(void) {
    uint8_t pixels[VALUES * 3], out[VALUES * 3];
    memset(pixels, 9, sizeof pixels);
    memset(out, 77, sizeof out);
    const rstpm_image good = {.struct_size = sizeof good,
                              .channels = 3,
                              .pixels = pixels,
                              .row_stride = SIDE * 3,
                              .height = SIDE,
                              .width = SIDE};
    rstpm_image image = good;
    const char* ran = "nothing";
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(NULL, out, 12, 4, 4, 1, NULL, &ran));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, NULL, 12, 4, 4, 1, NULL, &ran));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, out, 12, 4, 4, 0, NULL, &ran));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, out, 12, 4, 4, -5, NULL, &ran));
    EXPECT(RSTPM_UNKNOWN_KERNEL, rstpm_resize(&image, out, 12, 4, 4, 1, "abacus", &ran));
    const int64_t overlapping[] = {0, 11, -11};
    for (int i = 0; i < 3; ++i)
        EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, out, overlapping[i], 4, 4, 1, NULL, &ran));
    const int64_t absurd[] = {INT64_MAX, INT64_MIN, INT64_MAX / 3, INT64_MIN / 3};
    for (int i = 0; i < 4; ++i) {
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, absurd[i], 4, 4, 1, NULL, &ran));
        image.row_stride = absurd[i];
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
        image = good;
    }
    image.pixels = NULL;
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
    image = good;
    image.struct_size = sizeof image - 8;
    EXPECT(RSTPM_BAD_VERSION, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
    const int32_t channels[] = {0, 2, 5, -3, INT32_MAX};
    for (int i = 0; i < 5; ++i) {
        image = good;
        image.channels = channels[i];
        EXPECT(RSTPM_BAD_ARGUMENT, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
    }
    const int32_t sides[] = {0, -1, RSTPM_MAX_IMAGE_SIDE + 1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; ++i) {
        image = good;
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, sides[i], 4, 1, NULL, &ran));
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, 4, sides[i], 1, NULL, &ran));
        image.height = sides[i];
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
        image = good;
        image.width = sides[i];
        EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
    }
    image = good; /* sides that are possible, but not both at once: sums would no longer be exact */
    image.height = image.width = RSTPM_MAX_IMAGE_SIDE - 15;
    EXPECT(RSTPM_BAD_SIZE, rstpm_resize(&image, out, 12, 4, 4, 1, NULL, &ran));
    for (size_t i = 0; i < sizeof out; ++i) CHECK(out[i] == 77);
    CHECK(strcmp(ran, "nothing") == 0);

    EXPECT(RSTPM_OK, rstpm_resize(&good, out, 12, 4, 4, 1, NULL, NULL));
    CHECK(out[0] == 9 && out[47] == 9 && out[48] == 77);
}

/* In a process of its own, whose memory is limited: a plan for three levels of 32768 x 32768 takes 12 GiB. */
static void test_memory(void) {
#ifndef SANITIZED
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {1u << 28, 1u << 28};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        rstpm_fusion_config config = good_config();
        for (int level = 0; level < RSTPM_LEVELS; ++level)
            config.level_height[level] = config.level_width[level] = RSTPM_MAX_SIDE;
        create_gives(RSTPM_NO_MEMORY, &config);
        config = good_config();
        create_gives(RSTPM_OK, &config); /* what is possible still works */
        exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#endif
}

int main(void) {
    test_messages();
    test_create();
    test_kernels();
    test_run();
    test_resize();
    test_memory();
    return 0;
}
