/* What happens on either side of the network: plain C, no exceptions across this boundary, no mutable
 * globals.
 *
 * Fusion of six anomaly maps into one. The six maps are float32 and C-contiguous, in the order
 *     stpm level 0, 1, 2, recon level 0, 1, 2
 * where both maps of a level have the same size. A plan is made once per geometry and may then be used from
 * any number of threads at the same time. */
#ifndef RSTPM_EDGE_H
#define RSTPM_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RSTPM_LEVELS = 3, RSTPM_MAPS = 6, RSTPM_MAX_SIDE = 32768 };

typedef enum rstpm_status {
    RSTPM_OK = 0,
    RSTPM_BAD_SIZE,           /* a side outside what is possible */
    RSTPM_BAD_STATISTICS,     /* a mean, std or weight is not finite, or a std is not positive */
    RSTPM_BAD_SMOOTHING,      /* sigma negative, not finite, or larger than the output */
    RSTPM_BAD_ARGUMENT,       /* a null pointer, a negative count or an unknown mode */
    RSTPM_UNKNOWN_KERNEL,     /* no kernel has this name */
    RSTPM_UNSUPPORTED_KERNEL, /* the kernel exists, but not for this processor */
    RSTPM_NO_MEMORY
} rstpm_status;

typedef enum rstpm_mode {
    RSTPM_NORMALIZED = 0, /* sum over levels of up(w1 (M1 - mean1) / std1 + w2 (M2 - mean2) / std2) */
    RSTPM_PAPER = 1       /* product over levels of up(M1 + M2) */
} rstpm_mode;

typedef struct rstpm_fusion_config {
    int32_t level_height[RSTPM_LEVELS];
    int32_t level_width[RSTPM_LEVELS];
    int32_t height, width; /* of the fused map */
    rstpm_mode mode;
    float mean[RSTPM_MAPS], std[RSTPM_MAPS], weight[RSTPM_MAPS]; /* RSTPM_NORMALIZED only */
    double smoothing_sigma;                                      /* in output pixels; 0 is off */
    const char* kernel; /* a kernel's name, or NULL: RSTPM_EDGE_KERNEL, else the fastest one */
} rstpm_fusion_config;

typedef struct rstpm_image_result {
    float score;         /* the largest value of the fused map */
    int32_t row, column; /* where it is; the first in row-major order among equals */
    int32_t nonfinite;   /* 1 when an input value was NaN or infinite: then nothing else here is meaningful */
} rstpm_image_result;

typedef struct rstpm_fusion rstpm_fusion;

/* Makes a plan. On failure *fusion is NULL. */
rstpm_status rstpm_fusion_create(const rstpm_fusion_config* config, rstpm_fusion** fusion);
void rstpm_fusion_destroy(rstpm_fusion* fusion);

/* Fuses `batch` images: maps[i] has batch * h * w values, out has batch * height * width, results has batch
 * entries. With mask not NULL it receives batch * height * width bytes, 1 where out > threshold, else 0.
 * threads > 1 splits the rows of the batch over that many threads; the result is the same bit for bit. */
rstpm_status rstpm_fusion_run(rstpm_fusion* fusion, const float* const maps[RSTPM_MAPS], int64_t batch,
                              float* out, rstpm_image_result* results, uint8_t* mask, float threshold,
                              int32_t threads);

/* The kernel a plan uses, and the name that the kernel itself noted when it last ran (NULL before). */
const char* rstpm_fusion_kernel(const rstpm_fusion* fusion);
const char* rstpm_fusion_last_kernel(const rstpm_fusion* fusion);

/* An image as a camera or a file gives it, and how it becomes the network's input. */
typedef struct rstpm_image {
    const uint8_t* pixels; /* of the first row; within a row, pixels lie side by side */
    int64_t row_stride;    /* bytes from one row to the next; may be negative */
    int32_t height, width; /* 1..RSTPM_MAX_IMAGE_SIDE */
    int32_t channels;      /* 1 grey, 3 or 4 colours; the fourth is left out */
    int32_t bgr;           /* 1 where the order is blue, green, red; 0 for red, green, blue */
} rstpm_image;

enum { RSTPM_MAX_IMAGE_SIDE = 1 << 23 };

/* Resizes to height x width RGB pixels at out, whose rows lie out_row_stride bytes apart; out must not
 * overlap the image. Along an axis that shrinks, an output pixel is the mean of the input under it, fractions
 * of pixels included; along one that grows, it is interpolated linearly (half-pixel centres, edges clamped).
 * Rounding is exact, halves up, so every kernel and any number of threads give the same bytes. kernel: as in
 * rstpm_fusion_config. *ran, unless ran is NULL, is set to the name that the kernel itself noted. */
rstpm_status rstpm_resize(const rstpm_image* image, uint8_t* out, int64_t out_row_stride, int32_t height,
                          int32_t width, int32_t threads, const char* kernel, const char** ran);

/* Kernels that this processor can run, slowest first; NULL for an index past the end. */
const char* rstpm_available_kernel(size_t index);
/* Every kernel in the library, whatever the processor; NULL for an index past the end. */
const char* rstpm_known_kernel(size_t index);
/* The kernel that a plan gets when none is named. */
rstpm_status rstpm_default_kernel(const char** name);

#ifdef __cplusplus
}
#endif

#endif
