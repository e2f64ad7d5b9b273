/* What happens on either side of the network, as a C library: plain C, no exceptions across this boundary, no
 * mutable globals. Valid C99 and C++11.
 *
 * A camera's image becomes the network's input (rstpm_resize); the network's outputs become an anomaly map, a
 * score and a verdict (rstpm_scorer_run). rstpm_fusion_run is the part of it that makes one map out of six.
 * Everything is checked before anything is written; whatever goes wrong is a status, and rstpm_status_message
 * says it in a sentence. docs/embedding.md has a complete program. */
#ifndef RSTPM_EDGE_H
#define RSTPM_EDGE_H

#include <stddef.h>
#include <stdint.h>

/* With RSTPM_STATIC defined, for sources that are compiled into a program or library of one's own, nothing of
 * this is exported from there. */
#if defined(__GNUC__) && !defined(RSTPM_STATIC)
#define RSTPM_API __attribute__((visibility("default")))
#else
#define RSTPM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header. Until 1.0 the interface may change with the second number, and the library's soname does.
 */
#define RSTPM_VERSION "0.1.0"

/* Of the library that runs. */
RSTPM_API const char* rstpm_version(void);

enum { RSTPM_LEVELS = 3, RSTPM_MAPS = 6, RSTPM_COARSE_MAPS = 4, RSTPM_MAX_OUTPUTS = 15 };
enum { RSTPM_MAX_SIDE = 32768, RSTPM_MAX_IMAGE_SIDE = 1 << 23 };

/* With parameters within these bounds, maps of values up to RSTPM_MAX_VALUE (either sign) have a finite fused
 * map, whatever they are. */
#define RSTPM_MAX_VALUE 1e12f /* of maps and means */
#define RSTPM_MAX_GAIN 1e24f  /* of |weight / std| */
/* In output pixels. Below, a Gaussian is none; the work grows with sigma, so that there has to be an end. */
#define RSTPM_MIN_SIGMA 0.01
#define RSTPM_MAX_SIGMA 64.0

typedef enum rstpm_status {
    RSTPM_OK = 0,
    RSTPM_BAD_SIZE = 1,           /* a side outside what is possible, or more than memory can hold */
    RSTPM_BAD_STATISTICS = 2,     /* a mean, std, weight or bias outside the bounds, or a std not positive */
    RSTPM_BAD_SMOOTHING = 3,      /* sigma neither 0 nor in bounds, above the output's size, or a product's */
    RSTPM_BAD_ARGUMENT = 4,       /* a null pointer, a negative count, an unknown mode, a threshold of NaN */
    RSTPM_UNKNOWN_KERNEL = 5,     /* no kernel has this name */
    RSTPM_UNSUPPORTED_KERNEL = 6, /* the kernel exists, but not for this processor */
    RSTPM_NO_MEMORY = 7,          /* memory ran out */
    RSTPM_BAD_VERSION = 8         /* struct_size is not that of the library's own header */
} rstpm_status;

/* What a status means, as a sentence; any number is taken. Never NULL. */
RSTPM_API const char* rstpm_status_message(int32_t status);

/* ------------------------------------------------------------------------------------------------ fusion */

typedef enum rstpm_mode {
    RSTPM_NORMALIZED = 0, /* sum over levels of up(w1 (M1 - mean1) / std1 + w2 (M2 - mean2) / std2) */
    RSTPM_PAPER = 1       /* product over levels of up(M1 + M2) */
} rstpm_mode;

/* Zero what is not set: rstpm_fusion_config config = {.struct_size = sizeof config, ...} does so. */
typedef struct rstpm_fusion_config {
    uint32_t struct_size; /* sizeof(rstpm_fusion_config): with which header the caller was compiled */
    int32_t mode;         /* an rstpm_mode */
    int32_t level_height[RSTPM_LEVELS], level_width[RSTPM_LEVELS]; /* 1..RSTPM_MAX_SIDE, finest level first */
    int32_t height, width;                                         /* of the fused map, 1..RSTPM_MAX_SIDE */
    float mean[RSTPM_MAPS], std[RSTPM_MAPS], weight[RSTPM_MAPS]; /* RSTPM_NORMALIZED only; std no denormal */
    double smoothing_sigma; /* in output pixels, at most the larger side; 0 is off, as RSTPM_PAPER needs it */
    const char* kernel; /* a kernel's name, or NULL: RSTPM_EDGE_KERNEL of the environment, else the fastest */
} rstpm_fusion_config;

typedef struct rstpm_image_result {
    float score;         /* the largest value of the fused map; +infinity where `nonfinite` is set */
    int32_t row, column; /* where it is; the first in row-major order among equals */
    /* 1 when an input value was NaN, infinite, or so large that the fused map may not be finite. There is no
     * verdict then: the score lies above every threshold, so that a part that nobody could judge is not let
     * pass as good, and nothing else is meaningful. */
    int32_t nonfinite;
} rstpm_image_result;

typedef struct rstpm_fusion rstpm_fusion;

/* Makes a plan for one geometry. It copies what it needs of *config, and holds all the memory that one call
 * at a time needs. On failure *fusion is NULL. */
RSTPM_API rstpm_status rstpm_fusion_create(const rstpm_fusion_config* config, rstpm_fusion** fusion);

/* NULL is ignored. No call may still be running. */
RSTPM_API void rstpm_fusion_destroy(rstpm_fusion* fusion);

/* Fuses `batch` images. The six maps are float32 and C-contiguous, in the order
 *     stpm level 0, 1, 2, recon level 0, 1, 2
 * where both maps of a level have the same size: maps[i] has batch * h * w values, out has batch * height *
 * width, results has batch entries. out must not overlap the maps. With mask not NULL it receives batch *
 * height * width bytes, 1 where out > threshold, else 0. A threshold of NaN is refused with a mask.
 *
 * Any number of threads may use a plan at the same time. threads > 1 splits the rows of this batch over that
 * many threads; the result is the same bit for bit. With threads 1, no memory is allocated unless more calls
 * run at the same time than ever before. */
RSTPM_API rstpm_status rstpm_fusion_run(rstpm_fusion* fusion, const float* const maps[RSTPM_MAPS],
                                        int64_t batch, float* out, rstpm_image_result* results, uint8_t* mask,
                                        float threshold, int32_t threads);

/* The kernel a plan uses, and the name that the kernel itself noted when it last ran (NULL before). */
RSTPM_API const char* rstpm_fusion_kernel(const rstpm_fusion* fusion);
RSTPM_API const char* rstpm_fusion_last_kernel(const rstpm_fusion* fusion);

/* ------------------------------------------------------------------------------------------------- score */

/* How a model's outputs are scored. `rstpm-edge info MODEL --c-header` writes one for a model, to include.
 *
 *     A     = the six maps fused, as rstpm_fusion does; with a head, its map takes part in the finest level:
 *             up(w1 (M1 - mean1) / std1 + w2 (M2 - mean2) / std2 + head_weight (H - head_mean) / head_std)
 *     B     = the six score maps fused, with mode, statistics and smoothing of their own
 *     C     = the coarsest level by itself, at its own cells: the sum of weight (M - mean) / std over the
 *             coarsest map of pair 1 and that of pair 2
 *     D     = the same of both pairs' angle maps, where coarse_maps is 4
 *     score = max(A), or with score maps max(B) + max(C) + max(D) + map_weight * max(A) + bias; without
 *             coarse_maps, C and D have no part
 *
 * A is the anomaly map. An image is anomalous when its score is above `threshold`. Statistics are double, as
 * in the model's file, and used as float. Zero what is not set. */
typedef struct rstpm_scorer_config {
    uint32_t struct_size;                                          /* sizeof(rstpm_scorer_config) */
    int32_t mode;                                                  /* an rstpm_mode */
    int32_t level_height[RSTPM_LEVELS], level_width[RSTPM_LEVELS]; /* of all outputs; finest level first */
    int32_t height, width;                                         /* of the anomaly map */
    double mean[RSTPM_MAPS], std[RSTPM_MAPS], weight[RSTPM_MAPS];  /* as in rstpm_fusion_config */
    double smoothing_sigma;
    int32_t has_head; /* 1 where there is a head: RSTPM_NORMALIZED only, and weight[0] is not 0 */
    int32_t has_score_maps;
    double head_mean, head_std, head_weight;
    int32_t score_mode; /* an rstpm_mode; this and what follows: only where there are score maps */
    double score_mean[RSTPM_MAPS], score_std[RSTPM_MAPS], score_weight[RSTPM_MAPS];
    double score_smoothing_sigma;
    int32_t coarse_maps; /* 0, 2 or 4 (RSTPM_COARSE_MAPS) */
    double coarse_mean[RSTPM_COARSE_MAPS], coarse_std[RSTPM_COARSE_MAPS], coarse_weight[RSTPM_COARSE_MAPS];
    double map_weight;  /* 0..RSTPM_MAX_VALUE */
    double bias;        /* at most RSTPM_MAX_VALUE, either sign */
    double threshold;   /* not NaN */
    const char* kernel; /* as in rstpm_fusion_config */
} rstpm_scorer_config;

typedef struct rstpm_score {
    float score;         /* +infinity where `nonfinite` is set */
    int32_t row, column; /* where the anomaly map is highest; the first in row-major order among equals */
    int32_t anomalous;   /* 1 when the score is above the threshold, and where `nonfinite` is set */
    int32_t nonfinite;   /* as in rstpm_image_result; also when the score itself would not be finite */
} rstpm_score;

typedef struct rstpm_scorer rstpm_scorer;

/* Makes a scorer; it copies what it needs of *config, and holds all the memory that one call at a time needs.
 * On failure *scorer is NULL. */
RSTPM_API rstpm_status rstpm_scorer_create(const rstpm_scorer_config* config, rstpm_scorer** scorer);

/* NULL is ignored. No call may still be running. */
RSTPM_API void rstpm_scorer_destroy(rstpm_scorer* scorer);

/* How many outputs a model with this config has, and at which level output number `output` of them lies, 0
 * the finest; -1 where there is no such output. Of a config that rstpm_scorer_create takes. */
RSTPM_API int32_t rstpm_output_count(const rstpm_scorer_config* config);
RSTPM_API int32_t rstpm_output_level(const rstpm_scorer_config* config, int32_t output);

/* Scores `batch` images. outputs are the network's, float32 and C-contiguous: the six maps in the order of
 * rstpm_fusion_run; where there are score maps, these in the same order; where coarse_maps is 4, both angle
 * maps, which have the coarsest level's size; where there is a head, its map, which has the finest level's.
 * So there are 6 to 15 (RSTPM_MAX_OUTPUTS), each with batch * h * w values.
 *
 * masks says where anomalies count: NULL for everywhere in all images, else one entry for each image, which
 * is NULL or has height * width bytes, 0 where they do not. Score and position are then those of the rest,
 * and the score is never higher than without. A mask of zeros only is RSTPM_BAD_ARGUMENT. A value that is not
 * finite counts wherever it is.
 *
 * out receives batch * height * width values, the anomaly maps, whatever the masks; it must not overlap the
 * outputs. results has batch entries. Threads and memory: as with rstpm_fusion_run. */
RSTPM_API rstpm_status rstpm_scorer_run(rstpm_scorer* scorer, const float* const outputs[], int64_t batch,
                                        const uint8_t* const masks[], float* out, rstpm_score* results,
                                        int32_t threads);

/* As rstpm_fusion_kernel and rstpm_fusion_last_kernel. */
RSTPM_API const char* rstpm_scorer_kernel(const rstpm_scorer* scorer);
RSTPM_API const char* rstpm_scorer_last_kernel(const rstpm_scorer* scorer);

/* ------------------------------------------------------------------------------------------------ resize */

/* An image as a camera or a file gives it, and how it becomes the network's input. */
typedef struct rstpm_image {
    uint32_t struct_size;  /* sizeof(rstpm_image) */
    int32_t channels;      /* 1 grey, 3 or 4 colours; the fourth is left out */
    const uint8_t* pixels; /* of the first row; within a row, pixels lie side by side */
    int64_t row_stride;    /* bytes from one row to the next; may be negative */
    int32_t height, width; /* 1..RSTPM_MAX_IMAGE_SIDE */
    int32_t bgr;           /* 1 where the order is blue, green, red; 0 for red, green, blue */
} rstpm_image;

/* Resizes to height x width RGB pixels at out, whose rows lie out_row_stride bytes apart, at least 3 * width;
 * it may be negative. out must not overlap the image. Along an axis that shrinks, an output pixel is the mean
 * of the input under it, fractions of pixels included; along one that grows, it is interpolated linearly
 * (half-pixel centres, edges clamped). Rounding is exact, halves up, so every kernel and any number of
 * threads give the same bytes. kernel: as in rstpm_fusion_config. *ran, unless ran is NULL, is set to the
 * name that the kernel itself noted. */
RSTPM_API rstpm_status rstpm_resize(const rstpm_image* image, uint8_t* out, int64_t out_row_stride,
                                    int32_t height, int32_t width, int32_t threads, const char* kernel,
                                    const char** ran);

/* ----------------------------------------------------------------------------------------------- kernels */

/* Kernels that this processor can run, slowest first; NULL for an index past the end. */
RSTPM_API const char* rstpm_available_kernel(size_t index);
/* Every kernel in the library, whatever the processor; NULL for an index past the end. */
RSTPM_API const char* rstpm_known_kernel(size_t index);
/* The kernel that a plan gets when none is named. */
RSTPM_API rstpm_status rstpm_default_kernel(const char** name);

#ifdef __cplusplus
}
#endif

#endif
