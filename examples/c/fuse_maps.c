/* Six anomaly maps to a verdict.
 *
 *   fuse_maps                on maps made up here, with a defect near row 70, column 180
 *   fuse_maps MODEL MAP...   on raw float32 files: six, stpm finest to coarsest, then recon; where the model
 * has evidence, six more, of angles, in the same order; where it has a head, its map
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
 * and of a model with evidence also evidence_mean, evidence_std, evidence_weights, evidence_smoothing_sigma,
 * outline and offset: the score is then max(B) + outline * max(A) + offset, with B fused from the angles, and
 * A from the others. With a line `head` of its mean, std and weight, the head's map takes part in A.
 *
 * Prints the score and where it lies. Exit code: 0 normal, 1 anomalous, 2 wrong use. */
#include <math.h>
#include <rstpm_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct model {
    rstpm_fusion_config outline, evidence;
    double threshold, share, offset;
    double head_mean, head_std, head_weight;
    int has_evidence, has_head;
};

static void fail(const char* what, const char* why) {
    fprintf(stderr, "fuse_maps: %s: %s\n", what, why);
    exit(2);
}

static double read_number(FILE* file, const char* path) {
    double number;
    if (fscanf(file, "%lf", &number) != 1) fail(path, "a number is missing");
    if (!isfinite(number)) fail(path, "a number is not finite");
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

static void read_model(const char* path, struct model* model) {
    char word[32];
    int lines = 0;
    rstpm_fusion_config* outline = &model->outline;
    rstpm_fusion_config* evidence = &model->evidence;
    FILE* file = fopen(path, "r");
    if (file == NULL) fail(path, "cannot be opened");
    for (; fscanf(file, "%31s", word) == 1; ++lines) {
        if (strcmp(word, "mode") == 0) {
            if (fscanf(file, "%31s", word) != 1) fail(path, "the mode is missing");
            outline->mode = strcmp(word, "paper") == 0 ? RSTPM_PAPER : RSTPM_NORMALIZED;
        } else if (strcmp(word, "size") == 0) {
            outline->height = evidence->height = read_size(file, path);
            outline->width = evidence->width = read_size(file, path);
        } else if (strcmp(word, "levels") == 0) {
            for (int level = 0; level < RSTPM_LEVELS; ++level) {
                outline->level_height[level] = evidence->level_height[level] = read_size(file, path);
                outline->level_width[level] = evidence->level_width[level] = read_size(file, path);
            }
        } else if (strcmp(word, "mean") == 0) {
            read_six(file, path, outline->mean);
        } else if (strcmp(word, "std") == 0) {
            read_six(file, path, outline->std);
        } else if (strcmp(word, "weights") == 0) {
            read_six(file, path, outline->weight);
        } else if (strcmp(word, "smoothing_sigma") == 0) {
            outline->smoothing_sigma = read_number(file, path);
        } else if (strcmp(word, "threshold") == 0) {
            model->threshold = read_number(file, path);
        } else if (strcmp(word, "evidence_mean") == 0) {
            read_six(file, path, evidence->mean);
        } else if (strcmp(word, "evidence_std") == 0) {
            read_six(file, path, evidence->std);
        } else if (strcmp(word, "evidence_weights") == 0) {
            read_six(file, path, evidence->weight);
        } else if (strcmp(word, "evidence_smoothing_sigma") == 0) {
            evidence->smoothing_sigma = read_number(file, path);
        } else if (strcmp(word, "head") == 0) {
            model->head_mean = read_number(file, path);
            model->head_std = read_number(file, path);
            model->head_weight = read_number(file, path);
            model->has_head = 1;
        } else if (strcmp(word, "outline") == 0) {
            model->share = read_number(file, path);
        } else if (strcmp(word, "offset") == 0) {
            model->offset = read_number(file, path);
        } else {
            fail(path, "an unknown word");
        }
    }
    fclose(file);
    lines -= model->has_head;
    if (lines != 8 && lines != 14) fail(path, "neither eight lines nor, with evidence, fourteen");
    model->has_evidence = lines == 14;
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
static void make_up(struct model* model, float** maps) {
    rstpm_fusion_config* config = &model->outline;
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
    model->threshold = 25.0;
}

/* Fusion is a sum, and the head's map has the size of the first: it can ride on it. */
static void join_head(const struct model* model, float* first, const float* head) {
    const rstpm_fusion_config* config = &model->outline;
    const double gain = model->head_weight / model->head_std * config->std[0] / config->weight[0];
    const int count = config->level_height[0] * config->level_width[0];
    for (int k = 0; k < count; ++k) first[k] += (float)(gain * (head[k] - model->head_mean));
}

/* The maximum of six maps' fused map, and where it is. */
static rstpm_image_result fuse(const rstpm_fusion_config* config, float* const* maps) {
    rstpm_fusion* fusion;
    rstpm_status status = rstpm_fusion_create(config, &fusion);
    if (status != RSTPM_OK) fail("making the plan", rstpm_status_message(status));
    float* fused = malloc((size_t)config->height * (size_t)config->width * sizeof *fused);
    if (fused == NULL) fail("the fused map", "memory ran out");
    const float* inputs[RSTPM_MAPS];
    for (int i = 0; i < RSTPM_MAPS; ++i) inputs[i] = maps[i];
    rstpm_image_result result;
    status = rstpm_fusion_run(fusion, inputs, 1, fused, &result, NULL, 0.0f, 1);
    if (status != RSTPM_OK) fail("fusing", rstpm_status_message(status));
    if (result.nonfinite) fail("fusing", "a map holds NaN or infinity");
    rstpm_fusion_destroy(fusion);
    free(fused);
    return result;
}

int main(int count, char** arguments) {
    struct model model = {.outline = {.struct_size = sizeof(rstpm_fusion_config)},
                          .evidence = {.struct_size = sizeof(rstpm_fusion_config)}};
    float* maps[2 * RSTPM_MAPS + 1] = {NULL};
    if (count == 1) {
        make_up(&model, maps);
    } else {
        read_model(arguments[1], &model);
        const int wanted = (model.has_evidence ? 2 * RSTPM_MAPS : RSTPM_MAPS) + model.has_head;
        if (count != 2 + wanted)
            fail(
                "usage",
                "fuse_maps [MODEL MAP...]: six maps, six more where the model has evidence, one with a head");
        for (int i = 0; i < wanted; ++i) {
            const size_t height = (size_t)model.outline.level_height[i % RSTPM_LEVELS];
            maps[i] =
                read_map(arguments[2 + i], height * (size_t)model.outline.level_width[i % RSTPM_LEVELS]);
        }
        if (model.has_head) join_head(&model, maps[0], maps[wanted - 1]);
    }

    const rstpm_image_result highest = fuse(&model.outline, maps);
    double score = (double)highest.score;
    if (model.has_evidence)
        score = (double)fuse(&model.evidence, maps + RSTPM_MAPS).score + model.share * score + model.offset;
    const int anomalous = score > model.threshold;
    printf("score %.7g row %d column %d %s\n", score, (int)highest.row, (int)highest.column,
           anomalous ? "anomalous" : "normal");
    for (int i = 0; i <= 2 * RSTPM_MAPS; ++i) free(maps[i]);
    return anomalous;
}
