/* Six anomaly maps to a verdict.
 *
 *   fuse_maps                                  on maps made up here, with a defect near row 70, column 180
 *   fuse_maps MODEL MAP MAP MAP MAP MAP MAP    on raw float32 files: stpm finest to coarsest, then recon
 *
 * MODEL is a text file of words and numbers, as docs/embedding.md makes from a model file:
 *
 *   mode normalized
 *   size 256 256
 *   levels 32 32 16 16 8 8
 *   mean 0.11 0.08 0.09 0.21 0.17 0.15
 *   std 0.02 0.01 0.03 0.02 0.03 0.02
 *   weights 1 1 1 1 1 1
 *   smoothing_sigma 4
 *   threshold 25.5
 *
 * Prints the score and where it lies. Exit code: 0 normal, 1 anomalous, 2 wrong use. */
#include <rstpm_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char* what, const char* why) {
    fprintf(stderr, "fuse_maps: %s: %s\n", what, why);
    exit(2);
}

static double read_number(FILE* file, const char* path) {
    double number;
    if (fscanf(file, "%lf", &number) != 1) fail(path, "a number is missing");
    return number;
}

static int32_t read_size(FILE* file, const char* path) {
    const double number = read_number(file, path);
    if (!(number >= 1 && number <= RSTPM_MAX_SIDE)) fail(path, "a size is not possible");
    return (int32_t)number;
}

static void read_six(FILE* file, const char* path, float* numbers) {
    for (int i = 0; i < RSTPM_MAPS; ++i) numbers[i] = (float)read_number(file, path);
}

static void read_model(const char* path, rstpm_fusion_config* config, double* threshold) {
    char word[32];
    int lines = 0;
    FILE* file = fopen(path, "r");
    if (file == NULL) fail(path, "cannot be opened");
    for (; fscanf(file, "%31s", word) == 1; ++lines) {
        if (strcmp(word, "mode") == 0) {
            if (fscanf(file, "%31s", word) != 1) fail(path, "the mode is missing");
            config->mode = strcmp(word, "paper") == 0 ? RSTPM_PAPER : RSTPM_NORMALIZED;
        } else if (strcmp(word, "size") == 0) {
            config->height = read_size(file, path);
            config->width = read_size(file, path);
        } else if (strcmp(word, "levels") == 0) {
            for (int level = 0; level < RSTPM_LEVELS; ++level) {
                config->level_height[level] = read_size(file, path);
                config->level_width[level] = read_size(file, path);
            }
        } else if (strcmp(word, "mean") == 0) {
            read_six(file, path, config->mean);
        } else if (strcmp(word, "std") == 0) {
            read_six(file, path, config->std);
        } else if (strcmp(word, "weights") == 0) {
            read_six(file, path, config->weight);
        } else if (strcmp(word, "smoothing_sigma") == 0) {
            config->smoothing_sigma = read_number(file, path);
        } else if (strcmp(word, "threshold") == 0) {
            *threshold = read_number(file, path);
        } else {
            fail(path, "an unknown word");
        }
    }
    fclose(file);
    if (lines != 8) fail(path, "not eight lines");
}

static float* read_map(const char* path, size_t count) {
    float* map = malloc(count * sizeof *map);
    FILE* file = fopen(path, "rb");
    if (map == NULL) fail(path, "memory ran out");
    if (file == NULL) fail(path, "cannot be opened");
    if (fread(map, sizeof *map, count, file) != count || fgetc(file) != EOF)
        fail(path, "its size is not that of the level's map");
    fclose(file);
    return map;
}

/* Flat maps with a bump: what a model of 256 x 256 would say of a good part with one defect. */
static void make_up(rstpm_fusion_config* config, float* maps[RSTPM_MAPS], double* threshold) {
    config->height = config->width = 256;
    for (int level = 0; level < RSTPM_LEVELS; ++level)
        config->level_height[level] = config->level_width[level] = 32 >> level;
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        const int side = config->level_height[i % RSTPM_LEVELS], cell = 256 / side;
        config->mean[i] = 0.1f;
        config->std[i] = 0.02f;
        config->weight[i] = 1.0f;
        maps[i] = malloc((size_t)(side * side) * sizeof(float));
        if (maps[i] == NULL) fail("made-up maps", "memory ran out");
        for (int k = 0; k < side * side; ++k) maps[i][k] = 0.1f;
        maps[i][70 / cell * side + 180 / cell] = 0.5f;
    }
    config->smoothing_sigma = 4.0;
    *threshold = 25.0;
}

int main(int count, char** arguments) {
    rstpm_fusion_config config = {.struct_size = sizeof config};
    float* maps[RSTPM_MAPS];
    double threshold = 0.0;
    if (count == 1) {
        make_up(&config, maps, &threshold);
    } else if (count == 2 + RSTPM_MAPS) {
        read_model(arguments[1], &config, &threshold);
        for (int i = 0; i < RSTPM_MAPS; ++i) {
            const size_t height = (size_t)config.level_height[i % RSTPM_LEVELS];
            maps[i] = read_map(arguments[2 + i], height * (size_t)config.level_width[i % RSTPM_LEVELS]);
        }
    } else {
        fail("usage", "fuse_maps [MODEL MAP MAP MAP MAP MAP MAP]");
    }

    rstpm_fusion* fusion;
    rstpm_status status = rstpm_fusion_create(&config, &fusion);
    if (status != RSTPM_OK) fail("making the plan", rstpm_status_message(status));

    float* fused = malloc((size_t)config.height * (size_t)config.width * sizeof *fused);
    if (fused == NULL) fail("the fused map", "memory ran out");
    const float* inputs[RSTPM_MAPS];
    for (int i = 0; i < RSTPM_MAPS; ++i) inputs[i] = maps[i];
    rstpm_image_result result;
    status = rstpm_fusion_run(fusion, inputs, 1, fused, &result, NULL, 0.0f, 1);
    if (status != RSTPM_OK) fail("fusing", rstpm_status_message(status));
    if (result.nonfinite) fail("fusing", "a map holds NaN or infinity");

    const int anomalous = result.score > threshold;
    printf("score %.7g row %d column %d %s (kernel %s)\n", (double)result.score, (int)result.row,
           (int)result.column, anomalous ? "anomalous" : "normal", rstpm_fusion_last_kernel(fusion));
    rstpm_fusion_destroy(fusion);
    free(fused);
    for (int i = 0; i < RSTPM_MAPS; ++i) free(maps[i]);
    return anomalous;
}
