/* A network's outputs to a verdict.
 *
 *   score_maps                       on maps made up here, with a defect
 *   score_maps [--mask FILE] MAP...  on raw float32 files, one for each output that model.h lists, in its
 * order; the mask has a byte for each pixel of the anomaly map, 0 where nothing counts
 *
 * How the outputs are scored stands in a header that is compiled in. The one beside this file is of a model
 * that is made up, too; of yours, write it, and build with -DMODEL_HEADER=/where/it/is/model.h:
 *
 *   rstpm-edge info model.onnx --c-header > model.h
 *
 * Prints the score, and where the anomaly map is highest. Exit code: 0 normal, 1 anomalous, 2 wrong use, or
 * maps that hold NaN or infinity. */
#include <rstpm_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MODEL_HEADER
#define MODEL_HEADER "model.h"
#endif
#include MODEL_HEADER

static void fail(const char* what, const char* why) {
    fprintf(stderr, "score_maps: %s: %s\n", what, why);
    exit(2);
}

static int output_count(void) {
    return RSTPM_MAPS * (kModel.has_score_maps ? 2 : 1) + (kModel.has_head ? 1 : 0);
}

/* Pixels of an output; the head's, the seventh or thirteenth, has the finest level's. */
static size_t output_pixels(int output) {
    const int level = output % RSTPM_LEVELS;
    return (size_t)kModel.level_height[level] * (size_t)kModel.level_width[level];
}

static void* allocate(size_t count, size_t size) {
    void* memory = malloc(count * size);
    if (memory == NULL) fail("memory", "it ran out");
    return memory;
}

static void* read_whole(const char* path, size_t count, size_t size) {
    void* values = allocate(count, size);
    FILE* file = fopen(path, "rb");
    if (file == NULL) fail(path, "cannot be opened");
    if (fread(values, size, count, file) != count || fgetc(file) != EOF)
        fail(path, "its size is not the one that the model's header says");
    fclose(file);
    return values;
}

/* A flat map with a bump. */
static float* make_up(int output) {
    const int level = output % RSTPM_LEVELS;
    const size_t pixels = output_pixels(output), width = (size_t)kModel.level_width[level];
    float* map = allocate(pixels, sizeof *map);
    for (size_t i = 0; i < pixels; ++i) map[i] = 0.1f;
    map[(size_t)kModel.level_height[level] * 70 / 256 * width + width * 180 / 256] = 0.5f;
    return map;
}

int main(int count, char** arguments) {
    float* outputs[RSTPM_MAX_OUTPUTS];
    uint8_t* mask = NULL;
    const size_t pixels = (size_t)kModel.height * (size_t)kModel.width;
    char** files = arguments + 1;
    if (count > 2 && strcmp(files[0], "--mask") == 0) {
        mask = read_whole(files[1], pixels, sizeof *mask);
        files += 2;
    }
    const int given = count - (int)(files - arguments);
    if (given != 0 && given != output_count())
        fail("usage",
             "score_maps [--mask FILE] [MAP...], with one map for each output that the header lists");
    for (int i = 0; i < output_count(); ++i)
        outputs[i] = given == 0 ? make_up(i) : read_whole(files[i], output_pixels(i), sizeof(float));

    /* Once. */
    rstpm_scorer* scorer;
    rstpm_status status = rstpm_scorer_create(&kModel, &scorer);
    if (status != RSTPM_OK) fail("making the scorer", rstpm_status_message(status));
    float* anomaly_map = allocate(pixels, sizeof *anomaly_map);

    /* For each image. */
    const float* inputs[RSTPM_MAX_OUTPUTS];
    for (int i = 0; i < output_count(); ++i) inputs[i] = outputs[i];
    const uint8_t* const masks[1] = {mask};
    rstpm_score result;
    status = rstpm_scorer_run(scorer, inputs, 1, masks, anomaly_map, &result, 1);
    if (status != RSTPM_OK) fail("scoring", rstpm_status_message(status));
    if (result.nonfinite) fail("scoring", "a map holds NaN or infinity");
    printf("score %.7g row %d column %d %s\n", (double)result.score, (int)result.row, (int)result.column,
           result.anomalous ? "anomalous" : "normal");

    for (int i = 0; i < output_count(); ++i) free(outputs[i]);
    free(mask);
    free(anomaly_map);
    rstpm_scorer_destroy(scorer);
    return result.anomalous;
}
