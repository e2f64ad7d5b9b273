/* The score of a model's outputs, against fusions that are put together here by hand. */
#include <float.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "rstpm_edge.h"

enum {
    HEIGHT = 29,
    WIDTH = 38,
    PIXELS = HEIGHT * WIDTH,
    BATCH = 3,
    FINEST = 7 * 11,
    CALLERS = 4,
    CALLS = 25
};
enum { HEAD = 1, SCORE_MAPS = 2, ANGLES = 4, KINDS = 8 }; /* what a model has besides six maps */

static const int32_t kHeights[RSTPM_LEVELS] = {7, 4, 2}, kWidths[RSTPM_LEVELS] = {11, 5, 3};

typedef struct Outputs {
    float values[RSTPM_MAX_OUTPUTS][BATCH * FINEST];
    const float* maps[RSTPM_MAX_OUTPUTS];
    int count;
} Outputs;

static int has_angles(int kind) { return (kind & SCORE_MAPS) && (kind & ANGLES); }

static int level_of(int kind, int output) {
    const int maps = RSTPM_MAPS * (kind & SCORE_MAPS ? 2 : 1), angles = has_angles(kind) ? 2 : 0;
    if (output < maps) return output % RSTPM_LEVELS;
    return output < maps + angles ? RSTPM_LEVELS - 1 : 0;
}

static int pixels_of(int kind, int output) {
    return kHeights[level_of(kind, output)] * kWidths[level_of(kind, output)];
}

static void fill(Outputs* outputs, int kind, uint32_t seed) {
    outputs->count =
        RSTPM_MAPS * (kind & SCORE_MAPS ? 2 : 1) + (has_angles(kind) ? 2 : 0) + (kind & HEAD ? 1 : 0);
    for (int i = 0; i < outputs->count; ++i) {
        for (int k = 0; k < BATCH * pixels_of(kind, i); ++k)
            outputs->values[i][k] = 2.0f * next_uniform(&seed);
        outputs->maps[i] = outputs->values[i];
    }
}

static rstpm_scorer_config make_config(int kind, double sigma, const char* kernel) {
    rstpm_scorer_config config = {.struct_size = sizeof config,
                                  .height = HEIGHT,
                                  .width = WIDTH,
                                  .smoothing_sigma = sigma,
                                  .has_head = kind & HEAD ? 1 : 0,
                                  .has_score_maps = kind & SCORE_MAPS ? 1 : 0,
                                  .threshold = 5.0,
                                  .kernel = kernel};
    uint32_t state = 7;
    memcpy(config.level_height, kHeights, sizeof kHeights);
    memcpy(config.level_width, kWidths, sizeof kWidths);
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        config.mean[i] = (double)next_uniform(&state);
        config.std[i] = 0.1 + (double)next_uniform(&state);
        config.weight[i] = 0.5 + (double)next_uniform(&state);
    }
    if (kind & HEAD) {
        config.head_mean = 0.3;
        config.head_std = 0.4;
        config.head_weight = 1.7;
    }
    if (kind & SCORE_MAPS) {
        for (int i = 0; i < RSTPM_MAPS; ++i) {
            config.score_mean[i] = (double)next_uniform(&state);
            config.score_std[i] = 0.1 + (double)next_uniform(&state);
            config.score_weight[i] = 0.5 + (double)next_uniform(&state);
        }
        config.score_smoothing_sigma = 2.0 * sigma;
        config.map_weight = 0.3;
        config.coarse_maps = kind & ANGLES ? 4 : 2;
        for (int i = 0; i < config.coarse_maps; ++i) {
            config.coarse_mean[i] = (double)next_uniform(&state);
            config.coarse_std[i] = 0.1 + (double)next_uniform(&state);
            config.coarse_weight[i] = 0.1 + 0.3 * (double)next_uniform(&state);
        }
        config.bias = -1.5;
    }
    return config;
}

static rstpm_scorer* make(const rstpm_scorer_config* config) {
    rstpm_scorer* scorer = NULL;
    EXPECT(RSTPM_OK, rstpm_scorer_create(config, &scorer));
    return scorer;
}

/* One image's six maps, fused with these statistics. */
static void fuse(const rstpm_scorer_config* of, int score_maps, const float* const* maps, float* out) {
    rstpm_fusion_config config = {
        .struct_size = sizeof config,
        .mode = score_maps ? of->score_mode : of->mode,
        .height = HEIGHT,
        .width = WIDTH,
        .smoothing_sigma = score_maps ? of->score_smoothing_sigma : of->smoothing_sigma,
        .kernel = of->kernel};
    memcpy(config.level_height, kHeights, sizeof kHeights);
    memcpy(config.level_width, kWidths, sizeof kWidths);
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        config.mean[i] = (float)(score_maps ? of->score_mean : of->mean)[i];
        config.std[i] = (float)(score_maps ? of->score_std : of->std)[i];
        config.weight[i] = (float)(score_maps ? of->score_weight : of->weight)[i];
    }
    rstpm_fusion* fusion = NULL;
    rstpm_image_result result;
    EXPECT(RSTPM_OK, rstpm_fusion_create(&config, &fusion));
    EXPECT(RSTPM_OK, rstpm_fusion_run(fusion, maps, 1, out, &result, NULL, 0.0f, 1));
    CHECK(!result.nonfinite);
    rstpm_fusion_destroy(fusion);
}

static int first_peak(const float* map, const uint8_t* mask) {
    int peak = -1;
    for (int p = 0; p < PIXELS; ++p)
        if ((mask == NULL || mask[p] != 0) && (peak < 0 || map[p] > map[peak])) peak = p;
    return peak;
}

/* Whether any pixel below cell number `cell` of the coarsest level counts, all or part of it below. */
static int cell_counts(const uint8_t* mask, int cell) {
    const int rows = kHeights[RSTPM_LEVELS - 1], columns = kWidths[RSTPM_LEVELS - 1];
    const double row = cell / columns, column = cell % columns;
    for (int y = 0; y < HEIGHT; ++y)
        for (int x = 0; x < WIDTH; ++x) {
            const int below = (y + 1) * rows > row * HEIGHT && y * rows < (row + 1) * HEIGHT &&
                              (x + 1) * columns > column * WIDTH && x * columns < (column + 1) * WIDTH;
            if (below && mask[y * WIDTH + x] != 0) return 1;
        }
    return 0;
}

/* The highest cell of the coarsest level, of residuals and, where they are, of angles. */
static double coarse_peak(const rstpm_scorer_config* config, const float* const* maps, const uint8_t* mask) {
    const int coarse[] = {2, 5, 12, 13};
    double sum = 0.0;
    for (int kind = 0; kind < config->coarse_maps; kind += 2) {
        double peak = -INFINITY;
        for (int cell = 0; cell < kHeights[2] * kWidths[2]; ++cell) {
            double value = 0.0;
            for (int i = kind; i < kind + 2; ++i)
                value += config->coarse_weight[i] * ((double)maps[coarse[i]][cell] - config->coarse_mean[i]) /
                         config->coarse_std[i];
            if ((mask == NULL || cell_counts(mask, cell)) && value > peak) peak = value;
        }
        sum += peak;
    }
    return sum;
}

/* The head's map as an image of its own: a seventh summand, since fusion is linear. */
static void expected_image(const rstpm_scorer_config* config, const Outputs* outputs, int image,
                           const uint8_t* mask, float* map, rstpm_score* result) {
    static float part[PIXELS], zeros[FINEST];
    const float* maps[RSTPM_MAX_OUTPUTS];
    EXPECT(outputs->count, rstpm_output_count(config));
    EXPECT(-1, rstpm_output_level(config, -1));
    EXPECT(-1, rstpm_output_level(config, outputs->count));
    for (int i = 0; i < outputs->count; ++i) {
        const int kind = (config->has_head ? HEAD : 0) | (config->has_score_maps ? SCORE_MAPS : 0) |
                         (config->coarse_maps == 4 ? ANGLES : 0);
        EXPECT(level_of(kind, i), rstpm_output_level(config, i));
        maps[i] = outputs->maps[i] + image * pixels_of(kind, i);
    }
    fuse(config, 0, maps, map);
    if (config->has_head) {
        rstpm_scorer_config head = *config;
        const float* alone[RSTPM_MAPS] = {maps[outputs->count - 1], zeros, zeros, zeros, zeros, zeros};
        for (int i = 0; i < RSTPM_MAPS; ++i) head.mean[i] = head.weight[i] = 0.0;
        head.mean[0] = config->head_mean;
        head.std[0] = config->head_std;
        head.weight[0] = config->head_weight;
        fuse(&head, 0, alone, part);
        for (int p = 0; p < PIXELS; ++p) map[p] += part[p];
    }
    const int peak = first_peak(map, mask);
    double score = (double)map[peak];
    if (config->has_score_maps) {
        fuse(config, 1, maps + RSTPM_MAPS, part);
        score = (double)part[first_peak(part, mask)] + config->map_weight * score +
                coarse_peak(config, maps, mask) + config->bias;
    }
    memset(result, 0, sizeof *result);
    result->score = (float)score;
    result->row = peak / WIDTH;
    result->column = peak % WIDTH;
    result->anomalous = score > config->threshold;
}

static void same(const rstpm_score* found, const rstpm_score* expected) {
    CHECK(fabsf(found->score - expected->score) <= 1e-5f * fmaxf(1.0f, fabsf(expected->score)));
    CHECK(found->row == expected->row && found->column == expected->column);
    CHECK(found->anomalous == expected->anomalous && found->nonfinite == 0);
}

static void test_values(int kind, double sigma, const char* kernel) {
    static Outputs outputs;
    static float guarded[BATCH * PIXELS + 2], again[BATCH * PIXELS], expected[PIXELS];
    static uint8_t right[PIXELS], all[PIXELS];
    rstpm_scorer_config config = make_config(kind, sigma, kernel);
    rstpm_score results[BATCH], once_more[BATCH], wanted;
    float* const out = guarded + 1;
    fill(&outputs, kind, 3);
    for (int p = 0; p < PIXELS; ++p) {
        all[p] = 1;
        right[p] = p % WIDTH >= WIDTH - 9 ? 200 : 0;
    }
    rstpm_scorer* scorer = make(&config);
    CHECK(strcmp(rstpm_scorer_kernel(scorer), kernel) == 0);
    CHECK(rstpm_scorer_last_kernel(scorer) == NULL);
    guarded[0] = guarded[BATCH * PIXELS + 1] = 77.0f;
    const uint8_t* const masks[3][BATCH] = {{NULL, NULL, NULL}, {all, right, NULL}, {right, NULL, right}};
    for (int m = 0; m < 4; ++m) {
        const uint8_t* const* given = m == 0 ? NULL : masks[m - 1];
        EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, given, out, results, 1));
        CHECK(guarded[0] == 77.0f && guarded[BATCH * PIXELS + 1] == 77.0f);
        for (int image = 0; image < BATCH; ++image) {
            expected_image(&config, &outputs, image, given == NULL ? NULL : given[image], expected, &wanted);
            same(&results[image], &wanted);
            for (int p = 0; p < PIXELS; ++p) CHECK(fabsf(out[image * PIXELS + p] - expected[p]) <= 1e-4f);
        }
        EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, given, again, once_more, 5));
        CHECK(memcmp(out, again, sizeof again) == 0);
        CHECK(memcmp(results, once_more, sizeof results) == 0);
    }
    CHECK(strcmp(rstpm_scorer_last_kernel(scorer), kernel) == 0);

    /* A value that is not finite marks its own image only, wherever it is, and the image does not pass. */
    EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, masks[2], out, results, 1));
    const float wrong[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; i < 4 * outputs.count; ++i) {
        float* const spoiled = &outputs.values[i / 4][pixels_of(kind, i / 4)]; /* the second image's first */
        const float kept = *spoiled;
        *spoiled = wrong[i % 4];
        EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, masks[2], again, once_more, 1));
        CHECK(once_more[1].anomalous == 1);
        /* An angle map is not smoothed: what floats hold of it stays finite. */
        if (i % 4 < 3 || i / 4 < 2 * RSTPM_MAPS || level_of(kind, i / 4) == 0)
            CHECK(once_more[1].nonfinite == 1 && once_more[1].score == INFINITY);
        CHECK(memcmp(&once_more[0], &results[0], sizeof results[0]) == 0);
        CHECK(memcmp(&once_more[2], &results[2], sizeof results[2]) == 0);
        *spoiled = kept;
    }
    rstpm_scorer_destroy(scorer);

    /* A verdict by the threshold that is given. */
    for (int image = 0; image < BATCH; ++image) {
        for (int above = 0; above <= 1; ++above) {
            config.threshold = above ? (double)results[image].score : (double)results[image].score - 1e-4;
            scorer = make(&config);
            EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, masks[2], again, once_more, 1));
            CHECK(once_more[image].anomalous == !above);
            rstpm_scorer_destroy(scorer);
        }
    }
}

/* Finite maxima whose sum is not. */
static void test_a_score_beyond_floats(void) {
    static Outputs outputs;
    static float out[BATCH * PIXELS];
    rstpm_score results[BATCH];
    rstpm_scorer_config config = make_config(SCORE_MAPS, 0.0, NULL);
    fill(&outputs, SCORE_MAPS, 4);
    for (int k = 0; k < pixels_of(SCORE_MAPS, 0); ++k) outputs.values[0][k] = 1e28f;
    config.map_weight = 1e12;
    rstpm_scorer* scorer = make(&config);
    EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, BATCH, NULL, out, results, 1));
    for (int image = 0; image < BATCH; ++image) {
        CHECK(results[image].nonfinite == (image == 0) && results[image].anomalous);
        CHECK((results[image].score == INFINITY) == (image == 0));
    }
    rstpm_scorer_destroy(scorer);
}

static void create_gives(rstpm_status expected, const rstpm_scorer_config* config) {
    int something = 0;
    rstpm_scorer* scorer = (rstpm_scorer*)(void*)&something;
    EXPECT(expected, rstpm_scorer_create(config, &scorer));
    CHECK((scorer == NULL) == (expected != RSTPM_OK));
    rstpm_scorer_destroy(scorer);
}

static void test_create(void) {
    const int kind = HEAD | SCORE_MAPS | ANGLES;
    rstpm_scorer_config config = make_config(kind, 1.0, NULL);
    create_gives(RSTPM_OK, &config);
    create_gives(RSTPM_BAD_ARGUMENT, NULL);
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_create(&config, NULL));
    rstpm_scorer_destroy(NULL);
    CHECK(rstpm_scorer_kernel(NULL) == NULL && rstpm_scorer_last_kernel(NULL) == NULL);

    const uint32_t sizes[] = {0, sizeof config - 8, sizeof config + 8, UINT32_MAX};
    for (int i = 0; i < 4; ++i) {
        config.struct_size = sizes[i];
        create_gives(RSTPM_BAD_VERSION, &config);
    }
    memset(&config, 0xff, sizeof config);
    create_gives(RSTPM_BAD_VERSION, &config);

    const int32_t sides[] = {0, -1, RSTPM_MAX_SIDE + 1, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 5; ++i) {
        config = make_config(kind, 1.0, NULL);
        config.level_width[i % RSTPM_LEVELS] = sides[i];
        create_gives(RSTPM_BAD_SIZE, &config);
        config = make_config(kind, 1.0, NULL);
        config.height = sides[i];
        create_gives(RSTPM_BAD_SIZE, &config);
    }

    /* Every number that is used is checked, and none that is not. */
    const double wrong[] = {NAN, INFINITY, -INFINITY, 1e39, -1e39, 1.7e308};
    for (int i = 0; i < 6; ++i) {
        for (int map = 0; map < RSTPM_MAPS; ++map) {
            double* const six[] = {config.mean,       config.std,       config.weight,
                                   config.score_mean, config.score_std, config.score_weight};
            for (int field = 0; field < 6; ++field) {
                config = make_config(kind, 1.0, NULL);
                six[field][map] = wrong[i];
                create_gives(RSTPM_BAD_STATISTICS, &config);
                if (field < 3) continue;
                config.has_score_maps = 0;
                create_gives(RSTPM_OK, &config);
            }
        }
        double* const one[] = {
            &config.head_mean, &config.head_std,       &config.head_weight,   &config.map_weight,
            &config.bias,      &config.coarse_mean[1], &config.coarse_std[2], &config.coarse_weight[3]};
        for (int field = 0; field < 8; ++field) {
            config = make_config(kind, 1.0, NULL);
            *one[field] = wrong[i];
            create_gives(RSTPM_BAD_STATISTICS, &config);
            config.has_head = config.has_score_maps = 0;
            create_gives(RSTPM_OK, &config);
        }
    }
    config = make_config(kind, 1.0, NULL);
    config.map_weight = -0.1; /* what a mask leaves out could then raise the score */
    create_gives(RSTPM_BAD_STATISTICS, &config);
    config = make_config(kind, 1.0, NULL);
    config.coarse_maps = 3;
    create_gives(RSTPM_BAD_ARGUMENT, &config);
    config = make_config(kind, 1.0, NULL);
    config.coarse_std[0] = 0.0;
    create_gives(RSTPM_BAD_STATISTICS, &config);
    config.coarse_maps = 0; /* not used */
    create_gives(RSTPM_OK, &config);
    config = make_config(kind, 1.0, NULL);
    config.head_std = 0.0;
    create_gives(RSTPM_BAD_STATISTICS, &config);
    config = make_config(kind, 1.0, NULL);
    config.weight[0] = 0.0;
    create_gives(RSTPM_BAD_STATISTICS, &config);
    config.has_head = 0;
    create_gives(RSTPM_OK, &config);
    config = make_config(kind, 1.0, NULL);
    config.mode = RSTPM_PAPER;
    create_gives(RSTPM_BAD_ARGUMENT, &config);
    config.has_head = 0;
    create_gives(RSTPM_BAD_SMOOTHING, &config);
    config.smoothing_sigma = 0.0;
    create_gives(RSTPM_OK, &config);
    config.score_mode = 2;
    create_gives(RSTPM_BAD_ARGUMENT, &config);
    config = make_config(kind, 1.0, NULL);
    config.threshold = NAN;
    create_gives(RSTPM_BAD_ARGUMENT, &config);
    config.threshold = INFINITY;
    create_gives(RSTPM_OK, &config);
    config.score_smoothing_sigma = 100.0;
    create_gives(RSTPM_BAD_SMOOTHING, &config);
    config = make_config(kind, -1.0, NULL);
    create_gives(RSTPM_BAD_SMOOTHING, &config);
    config = make_config(kind, 1.0, "abacus");
    create_gives(RSTPM_UNKNOWN_KERNEL, &config);
}

static void test_run_writes_nothing_when_an_argument_is_wrong(void) {
    static Outputs outputs;
    static float out[BATCH * PIXELS], untouched[BATCH * PIXELS];
    static uint8_t none[PIXELS];
    static rstpm_score results[BATCH], as_before[BATCH];
    const uint8_t* const masks[BATCH] = {NULL, none, NULL};
    const rstpm_scorer_config config = make_config(HEAD | SCORE_MAPS, 1.0, NULL);
    rstpm_scorer* scorer = make(&config);
    fill(&outputs, HEAD | SCORE_MAPS, 5);
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(NULL, outputs.maps, BATCH, NULL, out, results, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, NULL, BATCH, NULL, out, results, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, -1, NULL, out, results, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, BATCH, NULL, NULL, results, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, BATCH, NULL, out, NULL, 1));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, BATCH, NULL, out, results, 0));
    EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, BATCH, masks, out, results, 1));
    EXPECT(RSTPM_BAD_SIZE, rstpm_scorer_run(scorer, outputs.maps, INT64_MAX, NULL, out, results, 1));
    for (int i = 0; i < outputs.count; ++i) {
        outputs.maps[i] = NULL;
        EXPECT(RSTPM_BAD_ARGUMENT, rstpm_scorer_run(scorer, outputs.maps, BATCH, NULL, out, results, 1));
        outputs.maps[i] = outputs.values[i];
    }
    EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, outputs.maps, 0, NULL, NULL, NULL, 1));
    CHECK(memcmp(out, untouched, sizeof out) == 0);
    CHECK(memcmp(results, as_before, sizeof results) == 0);
    rstpm_scorer_destroy(scorer);
}

typedef struct Caller {
    rstpm_scorer* scorer;
    Outputs outputs;
    float out[BATCH * PIXELS], expected[BATCH * PIXELS];
    rstpm_score results[BATCH];
    int differs;
} Caller;

static void* call(void* argument) {
    Caller* caller = argument;
    rstpm_score results[BATCH];
    for (int i = 0; i < CALLS && !caller->differs; ++i) {
        const rstpm_status status = rstpm_scorer_run(caller->scorer, caller->outputs.maps, BATCH, NULL,
                                                     caller->out, results, 1 + i % 2);
        caller->differs = status != RSTPM_OK ||
                          memcmp(caller->out, caller->expected, sizeof caller->out) != 0 ||
                          memcmp(results, caller->results, sizeof results) != 0;
    }
    return NULL;
}

static void test_callers_share_a_scorer(void) {
    static Caller callers[CALLERS];
    pthread_t threads[CALLERS];
    const rstpm_scorer_config config = make_config(HEAD | SCORE_MAPS, 1.5, NULL);
    rstpm_scorer* scorer = make(&config);
    for (int i = 0; i < CALLERS; ++i) {
        callers[i].scorer = scorer;
        fill(&callers[i].outputs, HEAD | SCORE_MAPS, (uint32_t)i);
        EXPECT(RSTPM_OK, rstpm_scorer_run(scorer, callers[i].outputs.maps, BATCH, NULL, callers[i].expected,
                                          callers[i].results, 1));
    }
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0);
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < CALLERS; ++i) CHECK(!callers[i].differs);
    rstpm_scorer_destroy(scorer);
}

int main(void) {
    for (size_t i = 0; rstpm_available_kernel(i) != NULL; ++i)
        for (int kind = 0; kind < KINDS; ++kind) {
            test_values(kind, 0.0, rstpm_available_kernel(i));
            test_values(kind, 1.5, rstpm_available_kernel(i));
        }
    test_a_score_beyond_floats();
    test_create();
    test_run_writes_nothing_when_an_argument_is_wrong();
    test_callers_share_a_scorer();
    return 0;
}
