/* A new scorer takes the place of the one that is in use, while others score batches with several threads:
 * what a program does whose model changes as it runs. For ThreadSanitizer, above all. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "rstpm_edge.h"

enum { SIDE = 24, PIXELS = SIDE * SIDE, BATCH = 3, CALLERS = 3, CALLS = 40, SWAPS = 60, MODELS = 2 };

static float maps[RSTPM_MAPS][BATCH * PIXELS];
static const float* given[RSTPM_MAPS];
static float expected[MODELS][BATCH * PIXELS];

/* The scorer that is in use. It goes when it has been replaced and the last call with it is done. */
typedef struct Model {
    rstpm_scorer* scorer;
    int number, users;
} Model;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Model* current;

static Model* make_model(int number) {
    rstpm_scorer_config config = {
        .struct_size = sizeof config, .height = SIDE, .width = SIDE, .threshold = 1.0};
    for (int level = 0; level < RSTPM_LEVELS; ++level)
        config.level_height[level] = config.level_width[level] = SIDE >> level;
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        config.std[i] = 1.0;
        config.weight[i] = 1.0 + number;
    }
    config.smoothing_sigma = 1.0;
    Model* const model = malloc(sizeof *model);
    CHECK(model != NULL);
    model->number = number;
    model->users = 1; /* the program itself */
    EXPECT(RSTPM_OK, rstpm_scorer_create(&config, &model->scorer));
    return model;
}

static Model* take(void) {
    CHECK(pthread_mutex_lock(&lock) == 0);
    Model* const model = current;
    ++model->users;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    return model;
}

static void give_back(Model* model) {
    CHECK(pthread_mutex_lock(&lock) == 0);
    const int last = --model->users == 0;
    CHECK(pthread_mutex_unlock(&lock) == 0);
    if (!last) return;
    rstpm_scorer_destroy(model->scorer);
    free(model);
}

static void score(const Model* model, float* out, int32_t threads) {
    rstpm_score results[BATCH];
    EXPECT(RSTPM_OK, rstpm_scorer_run(model->scorer, given, BATCH, NULL, out, results, threads));
    for (int image = 0; image < BATCH; ++image) CHECK(!results[image].nonfinite);
}

static void* call(void* argument) {
    float* const out = argument;
    for (int i = 0; i < CALLS; ++i) {
        Model* const model = take();
        score(model, out, 1 + i % 3);
        CHECK(memcmp(out, expected[model->number], sizeof expected[0]) == 0);
        CHECK(rstpm_scorer_last_kernel(model->scorer) != NULL);
        give_back(model);
    }
    return NULL;
}

int main(void) {
    static float outs[CALLERS][BATCH * PIXELS];
    pthread_t threads[CALLERS];
    uint32_t state = 3;
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        for (int k = 0; k < BATCH * PIXELS; ++k) maps[i][k] = next_uniform(&state);
        given[i] = maps[i];
    }
    for (int number = 0; number < MODELS; ++number) {
        Model* const model = make_model(number);
        score(model, expected[number], 1);
        give_back(model);
    }
    CHECK(memcmp(expected[0], expected[1], sizeof expected[0]) != 0);
    current = make_model(0);
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_create(&threads[i], NULL, call, outs[i]) == 0);
    for (int i = 1; i <= SWAPS; ++i) {
        Model* const next = make_model(i % MODELS);
        CHECK(pthread_mutex_lock(&lock) == 0);
        Model* const before = current;
        current = next;
        CHECK(pthread_mutex_unlock(&lock) == 0);
        give_back(before);
    }
    for (int i = 0; i < CALLERS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    give_back(current);
    return 0;
}
