/* The fusion of maps, against a reference written here without any thought of speed. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "rstpm_edge.h"

enum { HEIGHT = 45, WIDTH = 70, BATCH = 3, PIXELS = HEIGHT * WIDTH, CALLERS = 4, CALLS = 25 };

static const int32_t kHeights[RSTPM_LEVELS] = {12, 6, 3}, kWidths[RSTPM_LEVELS] = {18, 9, 5};

typedef struct Maps {
    float values[RSTPM_MAPS][BATCH * 12 * 18];
    const float* maps[RSTPM_MAPS];
} Maps;

static void fill(Maps* maps, uint32_t seed) {
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        const int count = BATCH * kHeights[i % RSTPM_LEVELS] * kWidths[i % RSTPM_LEVELS];
        for (int k = 0; k < count; ++k) maps->values[i][k] = 2.0f * next_uniform(&seed);
        maps->maps[i] = maps->values[i];
    }
}

static rstpm_fusion_config make_config(int32_t mode, double sigma, const char* kernel) {
    rstpm_fusion_config config = {.struct_size = sizeof config,
                                  .mode = mode,
                                  .height = HEIGHT,
                                  .width = WIDTH,
                                  .smoothing_sigma = sigma,
                                  .kernel = kernel};
    uint32_t state = 5;
    memcpy(config.level_height, kHeights, sizeof kHeights);
    memcpy(config.level_width, kWidths, sizeof kWidths);
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        config.mean[i] = next_uniform(&state);
        config.std[i] = 0.1f + next_uniform(&state);
        config.weight[i] = 3.0f * next_uniform(&state) - 1.0f;
    }
    return config;
}

static double clamp(double value, double most) { return value < 0.0 ? 0.0 : value > most ? most : value; }

/* Half-pixel centres, edges clamped. */
static double bilinear(const double* map, int height, int width, int y, int x) {
    const double row = clamp((y + 0.5) * height / HEIGHT - 0.5, height - 1);
    const double column = clamp((x + 0.5) * width / WIDTH - 0.5, width - 1);
    const int top = (int)row, left = (int)column;
    const int bottom = top + 1 < height ? top + 1 : top, right = left + 1 < width ? left + 1 : left;
    const double fy = row - top, fx = column - left;
    return (1 - fy) * ((1 - fx) * map[top * width + left] + fx * map[top * width + right]) +
           fy * ((1 - fx) * map[bottom * width + left] + fx * map[bottom * width + right]);
}

static void reference(const rstpm_fusion_config* config, const Maps* maps, int image, double* out) {
    const int paper = config->mode == RSTPM_PAPER;
    for (int p = 0; p < PIXELS; ++p) out[p] = paper ? 1.0 : 0.0;
    for (int level = 0; level < RSTPM_LEVELS; ++level) {
        const int height = kHeights[level], width = kWidths[level], count = height * width;
        double combined[12 * 18] = {0};
        for (int i = level; i < RSTPM_MAPS; i += RSTPM_LEVELS)
            for (int k = 0; k < count; ++k) {
                const double value = maps->values[i][image * count + k];
                combined[k] +=
                    paper ? value : (double)config->weight[i] * (value - config->mean[i]) / config->std[i];
            }
        for (int p = 0; p < PIXELS; ++p) {
            const double up = bilinear(combined, height, width, p / WIDTH, p % WIDTH);
            out[p] = paper ? out[p] * up : out[p] + up;
        }
    }
    if (config->smoothing_sigma == 0.0) return; /* as a product's always is */
    const int radius = (int)ceil(3.0 * config->smoothing_sigma);
    static double rows[PIXELS];
    for (int axis = 0; axis < 2; ++axis) {
        for (int p = 0; p < PIXELS; ++p) {
            double sum = 0.0, total = 0.0;
            for (int o = -radius; o <= radius; ++o) {
                const double tap = exp(-0.5 * o * o / (config->smoothing_sigma * config->smoothing_sigma));
                const int y = axis == 0 ? (int)clamp(p / WIDTH + o, HEIGHT - 1) : p / WIDTH;
                const int x = axis == 1 ? (int)clamp(p % WIDTH + o, WIDTH - 1) : p % WIDTH;
                sum += tap * (axis == 0 ? out : rows)[y * WIDTH + x];
                total += tap;
            }
            if (axis == 0) rows[p] = sum / total;
            if (axis == 1) out[p] = sum / total;
        }
    }
}

static rstpm_fusion* make(const rstpm_fusion_config* config) {
    rstpm_fusion* fusion = NULL;
    EXPECT(RSTPM_OK, rstpm_fusion_create(config, &fusion));
    return fusion;
}

static void test_values(int32_t mode, double sigma, const char* kernel) {
    static Maps maps;
    static float guarded[BATCH * PIXELS + 2], many[BATCH * PIXELS];
    static uint8_t mask[BATCH * PIXELS];
    static double expected[PIXELS];
    rstpm_image_result results[BATCH], again[BATCH];
    const rstpm_fusion_config config = make_config(mode, sigma, kernel);
    rstpm_fusion* fusion = make(&config);
    CHECK(strcmp(rstpm_fusion_kernel(fusion), kernel) == 0);
    CHECK(rstpm_fusion_last_kernel(fusion) == NULL);

    fill(&maps, 1);
    guarded[0] = guarded[BATCH * PIXELS + 1] = 77.0f;
    float* const out = guarded + 1;
    const float threshold = 0.5f;
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, out, results, mask, threshold, 1));
    CHECK(strcmp(rstpm_fusion_last_kernel(fusion), kernel) == 0);
    CHECK(guarded[0] == 77.0f && guarded[BATCH * PIXELS + 1] == 77.0f);
    for (int image = 0; image < BATCH; ++image) {
        reference(&config, &maps, image, expected);
        double largest = 0.0;
        int first = 0;
        for (int p = 0; p < PIXELS; ++p) largest = fmax(largest, fabs(expected[p]));
        for (int p = 0; p < PIXELS; ++p) {
            const float value = out[image * PIXELS + p];
            CHECK(fabs((double)value - expected[p]) <= 1e-5 * fmax(1.0, largest));
            CHECK(mask[image * PIXELS + p] == (value > threshold));
            if (value > out[image * PIXELS + first]) first = p;
        }
        CHECK(results[image].score == out[image * PIXELS + first]);
        CHECK(results[image].row == first / WIDTH && results[image].column == first % WIDTH);
        CHECK(results[image].nonfinite == 0);
    }
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, many, again, NULL, 0.0f, 7));
    CHECK(memcmp(out, many, sizeof many) == 0);
    CHECK(memcmp(results, again, sizeof results) == 0);

    /* A value that is not finite marks its own image only, and the next call is none the worse for it. */
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3 * RSTPM_MAPS; ++i) {
        float* const spoiled =
            &maps.values[i % RSTPM_MAPS][2 * kHeights[i % RSTPM_LEVELS] * kWidths[i % RSTPM_LEVELS] - 1];
        const float kept = *spoiled;
        *spoiled = wrong[i / RSTPM_MAPS];
        for (int threads = 1; threads <= 3; threads += 2) {
            EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, many, again, mask, 0.0f, threads));
            for (int image = 0; image < BATCH; ++image) {
                CHECK(again[image].nonfinite == (image == 1));
                CHECK((again[image].score == INFINITY) == (image == 1)); /* no part passes as good */
            }
            CHECK(memcmp(&results[2], &again[2], sizeof results[2]) == 0);
        }
        *spoiled = kept;
    }
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, many, again, NULL, 0.0f, 1));
    CHECK(memcmp(out, many, sizeof many) == 0);
    rstpm_fusion_destroy(fusion);
}

/* Rows narrower than a vector, of whole vectors, and of neither; any number of threads. */
static void test_mask(int32_t mode, double sigma, const char* kernel, int32_t width) {
    static Maps maps;
    static float out[BATCH * PIXELS];
    static uint8_t mask[BATCH * PIXELS + 1];
    rstpm_image_result results[BATCH];
    rstpm_fusion_config config = make_config(mode, sigma, kernel);
    config.width = width;
    const int count = BATCH * HEIGHT * width;
    rstpm_fusion* fusion = make(&config);
    fill(&maps, 3);
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, out, results, NULL, 0.0f, 1));
    const float threshold = out[count / 2]; /* is not above itself */
    for (int threads = 1; threads <= 4; threads += 3) {
        int above = 0;
        memset(mask, 7, sizeof mask);
        EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, out, results, mask, threshold, threads));
        for (int p = 0; p < count; ++p) CHECK(mask[p] == (out[p] > threshold));
        for (int p = 0; p < count; ++p) above += mask[p];
        CHECK(above > 0 && above < count && mask[count] == 7);
    }
    rstpm_fusion_destroy(fusion);
}

/* What the bounds allow at most still gives a finite map, and is not taken for what does not. */
static void test_bounds(int32_t mode, double sigma, const char* kernel) {
    static Maps maps;
    static float out[BATCH * PIXELS];
    rstpm_image_result results[BATCH];
    rstpm_fusion_config config = make_config(mode, sigma, kernel);
    fill(&maps, 2);
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        const int count = BATCH * kHeights[i % RSTPM_LEVELS] * kWidths[i % RSTPM_LEVELS];
        for (int k = 0; k < count; ++k)
            maps.values[i][k] = maps.values[i][k] < 1.0f ? -RSTPM_MAX_VALUE : RSTPM_MAX_VALUE;
        config.mean[i] = i % 2 == 0 ? RSTPM_MAX_VALUE : -RSTPM_MAX_VALUE;
        config.std[i] = 1.0f;
        config.weight[i] = i % 2 == 0 ? RSTPM_MAX_GAIN : -RSTPM_MAX_GAIN;
    }
    rstpm_fusion* fusion = make(&config);
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, out, results, NULL, 0.0f, 1));
    for (int image = 0; image < BATCH; ++image)
        CHECK(results[image].nonfinite == 0 && isfinite(results[image].score));
    for (int p = 0; p < BATCH * PIXELS; ++p) CHECK(isfinite(out[p]));

    /* Finite values that add up or multiply to what is not. */
    for (int i = 0; i < 2 * RSTPM_MAPS; ++i) {
        float* const spoiled = &maps.values[i / 2][0];
        const float kept = *spoiled;
        *spoiled = i % 2 == 0 ? 3e38f : -3e38f;
        EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps.maps, BATCH, out, results, NULL, 0.0f, 1));
        for (int image = 0; image < BATCH; ++image) {
            CHECK(results[image].nonfinite == (image == 0));
            CHECK((results[image].score == INFINITY) == (image == 0));
        }
        *spoiled = kept;
    }
    rstpm_fusion_destroy(fusion);
}

typedef struct Caller {
    rstpm_fusion* fusion;
    Maps maps;
    float out[BATCH * PIXELS], expected[BATCH * PIXELS];
    int differs;
} Caller;

static void* call(void* argument) {
    Caller* caller = argument;
    rstpm_image_result results[BATCH];
    for (int i = 0; i < CALLS && !caller->differs; ++i) {
        const rstpm_status status = rstpm_fusion_run(caller->fusion, caller->maps.maps, BATCH, caller->out,
                                                     results, NULL, 0.0f, 1 + i % 2);
        caller->differs =
            status != RSTPM_OK || memcmp(caller->out, caller->expected, sizeof caller->out) != 0;
    }
    return NULL;
}

static void test_callers_share_a_plan(void) {
    static Caller callers[CALLERS];
    pthread_t threads[CALLERS];
    rstpm_image_result results[BATCH];
    const rstpm_fusion_config config = make_config(RSTPM_NORMALIZED, 1.5, NULL);
    rstpm_fusion* fusion = make(&config);
    for (int i = 0; i < CALLERS; ++i) {
        callers[i].fusion = fusion;
        fill(&callers[i].maps, (uint32_t)i);
        EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, callers[i].maps.maps, BATCH, callers[i].expected, results,
                                          NULL, 0.0f, 1));
    }
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0);
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < CALLERS; ++i) CHECK(!callers[i].differs);
    rstpm_fusion_destroy(fusion);
}

int main(void) {
    const int32_t widths[] = {3, 16, 61};
    for (size_t i = 0; rstpm_available_kernel(i) != NULL; ++i) {
        for (int k = 0; k < 3; ++k) {
            const int32_t mode = k < 2 ? RSTPM_NORMALIZED : RSTPM_PAPER;
            const double sigma = k == 1 ? 1.5 : 0.0;
            test_values(mode, sigma, rstpm_available_kernel(i));
            test_bounds(mode, sigma, rstpm_available_kernel(i));
            for (int w = 0; w < 3; ++w) test_mask(mode, sigma, rstpm_available_kernel(i), widths[w]);
        }
    }
    test_callers_share_a_plan();
    return 0;
}
