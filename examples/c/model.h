/* Written by `rstpm-edge info --c-header`: how a model's outputs are scored. */
#ifndef RSTPM_MODEL_H
#define RSTPM_MODEL_H

#include <rstpm_edge.h>

/* The network's input is `image`, uint8 [N, 256, 256, 3], RGB:
 * a photo, stretched to that size.
 * Its outputs, in the order of rstpm_scorer_run, are float32 [N, height, width]:
 *    0  stpm_8, 32 x 32
 *    1  stpm_16, 16 x 16
 *    2  stpm_32, 8 x 8
 *    3  recon_8, 32 x 32
 *    4  recon_16, 16 x 16
 *    5  recon_32, 8 x 8
 */
static const rstpm_scorer_config kModel = {
    /* struct_size */ sizeof(rstpm_scorer_config),
    /* mode */ RSTPM_NORMALIZED,
    /* level_height */ {32, 16, 8},
    /* level_width */ {32, 16, 8},
    /* height */ 256,
    /* width */ 256,
    /* mean */ {0.1, 0.1, 0.1, 0.1, 0.1, 0.1},
    /* std */ {0.02, 0.02, 0.02, 0.02, 0.02, 0.02},
    /* weight */ {1.0, 1.0, 1.0, 1.0, 1.0, 1.0},
    /* smoothing_sigma */ 4.0,
    /* has_head */ 0,
    /* has_score_maps */ 0,
    /* head_mean */ 0.0,
    /* head_std */ 0.0,
    /* head_weight */ 0.0,
    /* score_mode */ RSTPM_NORMALIZED,
    /* score_mean */ {0.0, 0.0, 0.0, 0.0, 0.0, 0.0},
    /* score_std */ {0.0, 0.0, 0.0, 0.0, 0.0, 0.0},
    /* score_weight */ {0.0, 0.0, 0.0, 0.0, 0.0, 0.0},
    /* score_smoothing_sigma */ 0.0,
    /* coarse_maps */ 0,
    /* coarse_mean */ {0.0, 0.0, 0.0, 0.0},
    /* coarse_std */ {0.0, 0.0, 0.0, 0.0},
    /* coarse_weight */ {0.0, 0.0, 0.0, 0.0},
    /* map_weight */ 0.0,
    /* bias */ 0.0,
    /* threshold */ 25.0,
    /* kernel */ NULL,
};

/* x, y, width and height of what is judged of a photo; a width of 0: all of it. */
static const int32_t kModelRoi[4] = {0, 0, 0, 0};
/* 1 where it keeps its shape, centred on grey. */
enum { kModelLetterbox = 0 };

#endif
