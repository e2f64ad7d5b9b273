/* Any bytes as calls of the C interface: for libFuzzer (make fuzz), and for test_fuzz, which makes them
 * itself.
 *
 * What the caller promises is kept: arrays are as long as the header asks for, and memory beyond them is
 * guarded by the sanitizer. All else is hostile: sizes, modes, statistics, strides, counts, names, and every
 * value of every array. A call that is taken must give what the header says; one that is not must leave its
 * outputs alone. */
#include "fuzz_interface.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "rstpm_edge.h"

enum { MAX_SIDE = 24, MAX_BATCH = 3 };
static const char* const kKernels[] = {NULL, NULL, "generic", "avx2", "avx512", "neon", "abacus", ""};
static const double kOdd[] = {0.0,
                              -0.0,
                              1.0,
                              -1.0,
                              0.5,
                              1e-3,
                              1e-39,
                              1.2e-38,
                              1e-24,
                              1e12,
                              -1e12,
                              1e24,
                              1e25,
                              3.4e38,
                              3.5e38,
                              1e300,
                              64.0,
                              64.5,
                              0.01,
                              0.009,
                              (double)INFINITY,
                              -(double)INFINITY,
                              (double)NAN};

typedef struct Bytes {
    const uint8_t* data;
    size_t left;
} Bytes;

static uint32_t take(Bytes* bytes, size_t count) {
    uint32_t value = 0;
    for (; count > 0 && bytes->left > 0; --count, --bytes->left) value = value << 8 | *bytes->data++;
    return value;
}

static int32_t below(Bytes* bytes, uint32_t limit) { return (int32_t)(take(bytes, 1) % limit); }

/* Mostly one that is possible and small; else any. */
static int32_t side(Bytes* bytes) {
    const uint32_t kind = take(bytes, 1);
    if (kind < 250) return 1 + (int32_t)(kind % MAX_SIDE);
    return kind < 253    ? (int32_t)take(bytes, 4)
           : kind == 253 ? 0
           : kind == 254 ? RSTPM_MAX_SIDE + 1
                         : INT32_MIN;
}

static double number(Bytes* bytes) {
    const uint32_t kind = take(bytes, 1);
    if (kind < 248) return ((double)kind - 60.0) / 32.0;
    if (kind < 252) return kOdd[take(bytes, 1) % (sizeof kOdd / sizeof *kOdd)];
    float value = 0.0f;
    const uint32_t bits = take(bytes, 4);
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static double positive(Bytes* bytes) {
    const double value = number(bytes);
    return take(bytes, 1) < 250 ? fabs(value) + 0.1 : value;
}

/* An array of exactly this length, so that a sanitizer sees what is read behind it. */
static void* array(size_t count, size_t size) {
    void* const memory = malloc(count * size + (count == 0));
    CHECK(memory != NULL);
    return memory;
}

static void fill(Bytes* bytes, float* values, size_t count) {
    uint32_t state = take(bytes, 2);
    for (size_t i = 0; i < count; ++i) values[i] = next_uniform(&state);
    for (uint32_t odd = take(bytes, 1) % 16; odd > 12 && count > 0; --odd)
        values[take(bytes, 2) % count] = (float)number(bytes);
}

/* Sides that are possible, and so small that arrays for them may be made. */
static int is_small(const rstpm_scorer_config* config) {
    int small = config->height <= MAX_SIDE && config->width <= MAX_SIDE;
    for (int level = 0; level < RSTPM_LEVELS; ++level)
        small = small && config->level_height[level] <= MAX_SIDE && config->level_width[level] <= MAX_SIDE;
    return small;
}

static void six(Bytes* bytes, double* mean, double* std, double* weight) {
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        mean[i] = number(bytes);
        std[i] = positive(bytes);
        weight[i] = number(bytes);
    }
}

static void score(Bytes* bytes) {
    rstpm_scorer_config config;
    memset(&config, 0, sizeof config);
    config.struct_size = take(bytes, 1) < 250 ? (uint32_t)sizeof config : take(bytes, 4);
    config.mode = take(bytes, 1) < 250 ? below(bytes, 2) : (int32_t)take(bytes, 4);
    for (int level = 0; level < RSTPM_LEVELS; ++level) {
        config.level_height[level] = side(bytes);
        config.level_width[level] = side(bytes);
    }
    config.height = side(bytes);
    config.width = side(bytes);
    six(bytes, config.mean, config.std, config.weight);
    config.smoothing_sigma = below(bytes, 2) ? positive(bytes) : 0.0;
    config.has_head = below(bytes, 2);
    config.has_score_maps = below(bytes, 2);
    config.head_mean = number(bytes);
    config.head_std = positive(bytes);
    config.head_weight = number(bytes);
    config.score_mode = below(bytes, 2);
    six(bytes, config.score_mean, config.score_std, config.score_weight);
    config.score_smoothing_sigma = below(bytes, 2) ? positive(bytes) : 0.0;
    config.map_weight = positive(bytes);
    config.coarse_maps = take(bytes, 1) < 250 ? 2 * below(bytes, 3) : (int32_t)take(bytes, 4);
    for (int i = 0; i < RSTPM_COARSE_MAPS; ++i) {
        config.coarse_mean[i] = number(bytes);
        config.coarse_std[i] = positive(bytes);
        config.coarse_weight[i] = number(bytes);
    }
    config.bias = number(bytes);
    config.threshold = number(bytes);
    config.kernel = kKernels[below(bytes, 8)];
    if (!is_small(&config)) return; /* or it would be a test of the machine's memory */
    rstpm_scorer* scorer = NULL;
    const rstpm_status made = rstpm_scorer_create(&config, &scorer);
    CHECK((made == RSTPM_OK) == (scorer != NULL));
    CHECK(strcmp(rstpm_status_message((int32_t)made), "unknown status") != 0);
    if (scorer == NULL) return;
    CHECK(!isnan(config.threshold) && config.height > 0 && config.width > 0);

    const int count = rstpm_output_count(&config);
    CHECK(count >= RSTPM_MAPS && count <= RSTPM_MAX_OUTPUTS && rstpm_output_level(&config, count) == -1);
    const size_t batch = (size_t)below(bytes, MAX_BATCH + 1);
    const size_t pixels = (size_t)config.height * (size_t)config.width;
    float* outputs[RSTPM_MAX_OUTPUTS] = {NULL};
    const float* given[RSTPM_MAX_OUTPUTS] = {NULL};
    for (int i = 0; i < count; ++i) {
        const int level = rstpm_output_level(&config, i);
        const size_t values = batch * (size_t)config.level_height[level] * (size_t)config.level_width[level];
        outputs[i] = array(values, sizeof(float));
        fill(bytes, outputs[i], values);
        given[i] = below(bytes, 64) == 63 ? NULL : outputs[i];
    }
    uint8_t* masks[MAX_BATCH] = {NULL};
    const uint8_t* given_masks[MAX_BATCH] = {NULL};
    for (size_t image = 0; image < batch; ++image) {
        masks[image] = array(pixels, 1);
        memset(masks[image], below(bytes, 8) == 7, pixels);
        masks[image][take(bytes, 2) % pixels] = (uint8_t)take(bytes, 1);
        given_masks[image] = below(bytes, 2) ? masks[image] : NULL;
    }
    float* const out = array(batch * pixels, sizeof(float));
    float* const again = array(batch * pixels, sizeof(float));
    rstpm_score results[MAX_BATCH], once_more[MAX_BATCH];
    memset(results, 0x55, sizeof results);
    const int32_t threads = below(bytes, 6) - 1;
    const uint8_t* const* const all_masks = below(bytes, 2) ? given_masks : NULL;
    const rstpm_status ran =
        rstpm_scorer_run(scorer, given, (int64_t)batch, all_masks, out, results, threads);
    if (ran == RSTPM_OK && batch > 0) {
        EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, given, (int64_t)batch, all_masks, again, once_more, 1));
        CHECK(memcmp(results, once_more, batch * sizeof *results) == 0);
        for (size_t image = 0; image < batch; ++image) {
            const rstpm_score* const one = &results[image];
            CHECK(one->nonfinite ? one->score == INFINITY && one->anomalous : isfinite(one->score));
            CHECK(one->anomalous == ((double)one->score > config.threshold || one->nonfinite));
            if (one->nonfinite) continue;
            CHECK(one->row >= 0 && one->row < config.height && one->column >= 0 &&
                  one->column < config.width);
            CHECK(memcmp(out + image * pixels, again + image * pixels, pixels * sizeof *out) == 0);
            if (all_masks != NULL && all_masks[image] != NULL)
                CHECK(all_masks[image][one->row * config.width + one->column] != 0);
        }
    }
    if (ran != RSTPM_OK)
        for (size_t i = 0; i < sizeof results; ++i) CHECK(((const uint8_t*)results)[i] == 0x55);
    for (int i = 0; i < count; ++i) free(outputs[i]);
    for (size_t image = 0; image < batch; ++image) free(masks[image]);
    free(out);
    free(again);
    rstpm_scorer_destroy(scorer);
}

static void resize(Bytes* bytes) {
    rstpm_image image;
    memset(&image, 0, sizeof image);
    image.struct_size = take(bytes, 1) < 250 ? (uint32_t)sizeof image : take(bytes, 4);
    image.channels = take(bytes, 1) < 240 ? 1 + below(bytes, 4) : (int32_t)take(bytes, 4);
    image.height = side(bytes);
    image.width = side(bytes);
    image.bgr = (int32_t)take(bytes, 1) - 1;
    const int32_t height = side(bytes), width = side(bytes), threads = below(bytes, 6) - 1;
    if (image.height > MAX_SIDE || image.width > MAX_SIDE || height > MAX_SIDE || width > MAX_SIDE) return;
    const int possible = image.height > 0 && image.width > 0 && height > 0 && width > 0 &&
                         image.channels > 0 && image.channels <= 4;
    const size_t row = possible ? (size_t)image.width * (size_t)image.channels : 1;
    const size_t rows = possible ? (size_t)image.height : 1, out_rows = possible ? (size_t)height : 1;
    const size_t spare = take(bytes, 1) % 5,
                 out_row = (possible ? 3 * (size_t)width : 3) + take(bytes, 1) % 5;
    uint8_t* const pixels = array(rows * (row + spare), 1);
    uint8_t* const out = array(out_rows * out_row, 1);
    for (size_t i = 0; i < rows * (row + spare); ++i) pixels[i] = (uint8_t)(i * 37u + i / 7u);
    memset(out, 77, out_rows * out_row);
    const int up = below(bytes, 2), out_up = below(bytes, 2);
    image.pixels = up ? pixels + (rows - 1) * (row + spare) : pixels;
    image.row_stride = (up ? -1 : 1) * (int64_t)(row + spare);
    int64_t stride = (out_up ? -1 : 1) * (int64_t)out_row;
    uint8_t* const first = out_up ? out + (out_rows - 1) * out_row : out;
    const uint32_t absurd = take(bytes, 1);
    if (absurd == 255) stride = INT64_MIN + (int64_t)take(bytes, 1);
    if (absurd == 254) stride = 0;
    if (absurd == 253) image.row_stride = INT64_MAX - (int64_t)take(bytes, 1);
    const char* ran = "nothing";
    const rstpm_status status =
        rstpm_resize(&image, first, stride, height, width, threads, kKernels[below(bytes, 8)], &ran);
    if (status != RSTPM_OK) {
        for (size_t i = 0; i < out_rows * out_row; ++i) CHECK(out[i] == 77);
        CHECK(strcmp(ran, "nothing") == 0);
    } else {
        uint8_t* const same = array(out_rows * 3 * (size_t)width, 1);
        EXPECT(RSTPM_OK, rstpm_resize(&image, same, 3 * (int64_t)width, height, width, 1, "generic", NULL));
        for (int32_t y = 0; y < height; ++y)
            CHECK(memcmp(first + y * stride, same + (size_t)y * 3 * (size_t)width, 3 * (size_t)width) == 0);
        free(same);
    }
    free(pixels);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Bytes bytes = {data, size};
    if (take(&bytes, 1) % 3 == 0) {
        resize(&bytes);
    } else {
        score(&bytes);
    }
    return 0;
}
