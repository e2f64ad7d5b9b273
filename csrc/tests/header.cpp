// Compiled as C++11: the header needs nothing newer, and lays its structures out without gaps.
#include "rstpm_edge.h"

static_assert(RSTPM_MAPS == 2 * RSTPM_LEVELS, "two maps for each level");
static_assert(sizeof(rstpm_image_result) == 16, "four numbers of 32 bits");
static_assert(offsetof(rstpm_fusion_config, struct_size) == 0, "the size comes first, whatever comes later");
static_assert(sizeof(rstpm_score) == 20, "five numbers of 32 bits");
static_assert(offsetof(rstpm_scorer_config, struct_size) == 0, "the size comes first, whatever comes later");
static_assert(offsetof(rstpm_image, struct_size) == 0, "the size comes first, whatever comes later");
