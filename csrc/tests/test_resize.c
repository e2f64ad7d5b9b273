/* Resizing, against a reference in whole numbers: every byte must agree. */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "rstpm_edge.h"

enum { MOST = 64 };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* The weight of a source in an output, in units whose sum is *total. */
static int64_t weight(int source, int sources, int output, int outputs, int64_t* total) {
    if (sources >= outputs) { /* how much of it lies under the output */
        *total = sources;
        const int64_t begin = larger((int64_t)output * sources, (int64_t)source * outputs);
        const int64_t end = smaller((int64_t)(output + 1) * sources, (int64_t)(source + 1) * outputs);
        return larger(end - begin, 0);
    }
    *total = 2 * outputs; /* linear between two centres */
    const int64_t last = (int64_t)(sources - 1) * *total;
    const int64_t position = smaller(larger((int64_t)(2 * output + 1) * sources - outputs, 0), last);
    return larger(*total - larger(position - source * *total, source * *total - position), 0);
}

static uint8_t reference(const rstpm_image* image, int height, int width, int y, int x, int channel) {
    int64_t sum = 0, rows = 1, columns = 1;
    const int bgr_channel = image->bgr ? 2 - channel : channel;
    for (int row = 0; row < image->height; ++row) {
        const int64_t row_weight = weight(row, image->height, y, height, &rows);
        if (row_weight == 0) continue;
        for (int column = 0; column < image->width; ++column) {
            const int at = column * image->channels + (image->channels == 1 ? 0 : bgr_channel);
            sum += row_weight * weight(column, image->width, x, width, &columns) *
                   image->pixels[row * image->row_stride + at];
        }
    }
    return (uint8_t)((2 * sum + rows * columns) / (2 * rows * columns)); /* halves up */
}

static void test_values(int32_t in_height, int32_t in_width, int32_t height, int32_t width, int32_t channels,
                        int32_t bgr, int upside_down) {
    static uint8_t pixels[MOST * (4 * MOST + 5)], out[MOST * (3 * MOST + 7)], expected[sizeof out];
    uint32_t state = 3;
    for (size_t i = 0; i < sizeof pixels; ++i) pixels[i] = (uint8_t)(256.0f * next_uniform(&state));
    const int64_t in_stride = in_width * channels + 5, out_stride = 3 * width + 7;
    const rstpm_image image = {.struct_size = sizeof image,
                               .channels = channels,
                               .pixels = upside_down ? pixels + (in_height - 1) * in_stride : pixels,
                               .row_stride = upside_down ? -in_stride : in_stride,
                               .height = in_height,
                               .width = in_width,
                               .bgr = bgr};
    memset(expected, 77, sizeof expected); /* also between the rows: nothing else is written */
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < 3 * width; ++x)
            expected[(upside_down ? height - 1 - y : y) * out_stride + x] =
                reference(&image, height, width, y, x / 3, x % 3);
    uint8_t* const first = upside_down ? out + (height - 1) * out_stride : out;
    for (size_t i = 0; rstpm_available_kernel(i) != NULL; ++i) {
        for (int32_t threads = 1; threads <= 1000; threads += 333) {
            const char* ran = NULL;
            memset(out, 77, sizeof out);
            EXPECT(RSTPM_OK, rstpm_resize(&image, first, upside_down ? -out_stride : out_stride, height,
                                          width, threads, rstpm_available_kernel(i), &ran));
            CHECK(strcmp(ran, rstpm_available_kernel(i)) == 0);
            CHECK(memcmp(out, expected, sizeof out) == 0);
        }
    }
}

int main(void) {
    const int32_t sizes[][4] = {{64, 60, 20, 23}, {64, 64, 64, 64}, {7, 5, 33, 64},
                                {1, 1, 3, 2},     {50, 3, 9, 40},   {3, 61, 40, 16}};
    const int32_t channels[] = {1, 3, 4};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i)
        for (int c = 0; c < 3; ++c)
            for (int bgr = 0; bgr < 2; ++bgr)
                test_values(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], channels[c], bgr,
                            (int)(i + (size_t)c) % 2);
    return 0;
}
