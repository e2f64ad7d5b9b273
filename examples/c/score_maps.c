/* A network's outputs to a verdict.
 *
 *   score_maps                       on maps made up here, with a defect
 *   score_maps [--mask FILE] MAP...  on raw float32 files, one for each output that model.h lists, in its
 *                                    order; the mask has a byte for each pixel of the anomaly map, 0 where
 *                                    nothing counts
 *   score_maps --photo FILE [--roi X,Y,W,H] --network COMMAND [--mask FILE] MAP...
 *
 * The last makes the network's input of a photo, a binary PPM file of 8 bits, or of the part of it that --roi
 * names (else the model's own ROI), and writes it to input.u8; runs COMMAND, which is your runtime and makes
 * the maps of it; and says where the defect lies on the photo.
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

enum { PADDING = 127 }; /* the grey around a photo that keeps its shape */

typedef struct Box {
    int32_t x, y, width, height;
} Box;

static void fail(const char* what, const char* why) {
    fprintf(stderr, "score_maps: %s: %s\n", what, why);
    exit(2);
}

static int output_count(void) { return (int)rstpm_output_count(&kModel); }

static size_t output_pixels(int output) {
    const int32_t level = rstpm_output_level(&kModel, output);
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

/* A binary PPM file of 8 bits; its pixels are the caller's to free. */
static rstpm_image read_ppm(const char* path, uint8_t** pixels) {
    int width = 0, height = 0, most = 0;
    FILE* file = fopen(path, "rb");
    if (file == NULL) fail(path, "cannot be opened");
    if (fscanf(file, "P6 %d %d %d", &width, &height, &most) != 3 || most != 255 || fgetc(file) == EOF ||
        width < 1 || height < 1 || width > RSTPM_MAX_SIDE || height > RSTPM_MAX_SIDE)
        fail(path, "is no binary PPM image of 8 bits (P6)");
    const size_t count = 3 * (size_t)width * (size_t)height;
    *pixels = allocate(count, 1);
    if (fread(*pixels, 1, count, file) != count) fail(path, "is truncated");
    fclose(file);
    const rstpm_image photo = {.struct_size = sizeof photo,
                               .channels = 3,
                               .pixels = *pixels,
                               .row_stride = 3 * (int64_t)width,
                               .height = height,
                               .width = width};
    return photo;
}

/* What --roi says, else the model's ROI, else all of the photo. */
static Box choose_part(const char* roi, const rstpm_image* photo) {
    Box part = {0, 0, photo->width, photo->height};
    int x = kModelRoi[0], y = kModelRoi[1], width = kModelRoi[2], height = kModelRoi[3];
    char more = 0;
    if (roi != NULL && sscanf(roi, "%d,%d,%d,%d%c", &x, &y, &width, &height, &more) != 4)
        fail("--roi", "it is X,Y,W,H in pixels of the photo, such as 100,50,640,480");
    if (roi == NULL && width == 0) return part;
    if (x < 0 || y < 0 || width < 1 || height < 1 || width > photo->width - x || height > photo->height - y)
        fail("the ROI", "it is empty or reaches beyond the photo");
    part.x = x;
    part.y = y;
    part.width = width;
    part.height = height;
    return part;
}

/* A side in the network's input: the nearest whole number, of two the even one. */
static int32_t scaled(int32_t side, double scale, int32_t most) {
    const double exact = side * scale;
    int32_t whole = (int32_t)exact;
    if (exact - whole > 0.5 || (exact - whole == 0.5 && whole % 2 == 1)) ++whole;
    return whole < 1 ? 1 : whole > most ? most : whole;
}

/* Where the part comes to lie in the network's input. */
static Box place(const Box* part) {
    Box at = {0, 0, kModel.width, kModel.height};
    if (!kModelLetterbox) return at;
    const double by_height = (double)kModel.height / part->height,
                 by_width = (double)kModel.width / part->width;
    const double scale = by_height < by_width ? by_height : by_width;
    at.height = scaled(part->height, scale, kModel.height);
    at.width = scaled(part->width, scale, kModel.width);
    at.y = (kModel.height - at.height) / 2;
    at.x = (kModel.width - at.width) / 2;
    return at;
}

/* Crops without a copy: the part begins at another pixel, and has the photo's distance between rows. */
static void write_input(rstpm_image photo, const Box* part, const Box* at) {
    const size_t pixels = (size_t)kModel.height * (size_t)kModel.width;
    uint8_t* input = allocate(pixels, 3);
    memset(input, PADDING, 3 * pixels);
    photo.pixels += part->y * photo.row_stride + 3 * part->x;
    photo.height = part->height;
    photo.width = part->width;
    const rstpm_status status = rstpm_resize(&photo, input + 3 * (at->y * kModel.width + at->x),
                                             3 * (int64_t)kModel.width, at->height, at->width, 1, NULL, NULL);
    if (status != RSTPM_OK) fail("resizing", rstpm_status_message(status));
    FILE* file = fopen("input.u8", "wb");
    if (file == NULL || fwrite(input, 3, pixels, file) != pixels || fclose(file) != 0)
        fail("input.u8", "cannot be written");
    free(input);
}

/* The photo's pixel, along one axis, under the centre of a cell of the anomaly map; for padding, the nearest.
 */
static int32_t on_photo(int32_t cell, int32_t at, int32_t placed, int32_t begin, int32_t side) {
    const int32_t pixel = (int32_t)((cell + 0.5 - at) * side / placed);
    return begin + (pixel < 0 ? 0 : pixel >= side ? side - 1 : pixel);
}

/* A flat map with a bump. */
static float* make_up(int output) {
    const int32_t level = rstpm_output_level(&kModel, output);
    const size_t pixels = output_pixels(output), width = (size_t)kModel.level_width[level];
    float* map = allocate(pixels, sizeof *map);
    for (size_t i = 0; i < pixels; ++i) map[i] = 0.1f;
    map[(size_t)kModel.level_height[level] * 70 / 256 * width + width * 180 / 256] = 0.5f;
    return map;
}

int main(int count, char** arguments) {
    float* outputs[RSTPM_MAX_OUTPUTS];
    uint8_t *mask = NULL, *photo_pixels = NULL;
    const char *photo_file = NULL, *roi = NULL, *network = NULL;
    Box part = {0, 0, 0, 0}, at = {0, 0, 0, 0};
    const size_t pixels = (size_t)kModel.height * (size_t)kModel.width;
    char** files = arguments + 1;
    for (; files + 1 < arguments + count && strncmp(files[0], "--", 2) == 0; files += 2) {
        if (strcmp(files[0], "--mask") == 0 && mask == NULL) {
            mask = read_whole(files[1], pixels, sizeof *mask);
        } else if (strcmp(files[0], "--photo") == 0) {
            photo_file = files[1];
        } else if (strcmp(files[0], "--roi") == 0) {
            roi = files[1];
        } else if (strcmp(files[0], "--network") == 0) {
            network = files[1];
        } else {
            fail(files[0], "no such option");
        }
    }
    const int given = count - (int)(files - arguments);
    if ((given != 0 && given != output_count()) || (photo_file != NULL) != (network != NULL) ||
        (photo_file != NULL && given == 0) || (roi != NULL && photo_file == NULL))
        fail("usage",
             "score_maps [--photo FILE [--roi X,Y,W,H] --network COMMAND] [--mask FILE] [MAP...], "
             "with one map for each output that the header lists");
    if (photo_file != NULL) {
        const rstpm_image photo = read_ppm(photo_file, &photo_pixels);
        part = choose_part(roi, &photo);
        at = place(&part);
        write_input(photo, &part, &at);
        if (system(network) != 0) fail(network, "it failed");
    }
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
    printf("score %.7g row %d column %d", (double)result.score, (int)result.row, (int)result.column);
    if (photo_file != NULL)
        printf(" x %d y %d", (int)on_photo(result.column, at.x, at.width, part.x, part.width),
               (int)on_photo(result.row, at.y, at.height, part.y, part.height));
    printf(" %s\n", result.anomalous ? "anomalous" : "normal");

    for (int i = 0; i < output_count(); ++i) free(outputs[i]);
    free(mask);
    free(photo_pixels);
    free(anomaly_map);
    rstpm_scorer_destroy(scorer);
    return result.anomalous;
}
