// Resizing of output rows [row_begin, row_end), written once and compiled once per instruction set, with the
// structure V of the including file (see fusion_kernel.inl).
//
//   1. sum_rows       the input rows under an output row, weighted and summed value for value; long rows that
//                     the compiler turns into vectors, and nearly all of the work on a large image
//   2. write_pixels   those sums, summed along the row to output pixels, rounded and put in order
//
// All sums are of whole numbers, and exact.

typedef double Double4 __attribute__((vector_size(32)));

// Byte sums of so many rows still fit into 16 bits.
constexpr int kByteSumRows = 256;

template <int kRows>
[[gnu::always_inline]] inline std::uint16_t column_sum(const std::uint8_t* at, std::int64_t stride) {
    int sum = at[0];
    if (kRows > 1) sum += at[stride];
    if (kRows > 2) sum += at[2 * stride];
    if (kRows > 3) sum += at[3 * stride];
    return static_cast<std::uint16_t>(sum);
}

template <int kRows>
void add_rows(std::uint16_t* __restrict sums, const std::uint8_t* row, std::int64_t stride, int count,
              bool fresh) {
    if (fresh) {
        for (int i = 0; i < count; ++i) sums[i] = column_sum<kRows>(row + i, stride);
    } else {
        for (int i = 0; i < count; ++i)
            sums[i] = static_cast<std::uint16_t>(sums[i] + column_sum<kRows>(row + i, stride));
    }
}

// Four rows at a time: one load and store of the sums then serves four.
void sum_bytes(std::uint16_t* sums, const std::uint8_t* row, std::int64_t stride, int rows, int count) {
    bool fresh = true;
    for (; rows >= 4; rows -= 4, row += 4 * stride, fresh = false)
        add_rows<4>(sums, row, stride, count, fresh);
    if (rows == 3) add_rows<3>(sums, row, stride, count, fresh);
    if (rows == 2) add_rows<2>(sums, row, stride, count, fresh);
    if (rows == 1) add_rows<1>(sums, row, stride, count, fresh);
}

// `count` values from `values` on, in the image's first row, summed over the rows of a span.
void sum_rows(const ResizeTask& task, const Span& span, const std::uint8_t* values, int count) {
    std::int32_t* __restrict sums = task.row_sums;
    const std::int64_t stride = task.image.row_stride;
    const std::uint8_t* const first = values + span.first * stride;
    const std::uint8_t* const last = values + span.last * stride;
    const std::uint8_t* row = first + stride;
    const std::int32_t wf = span.first_weight, wl = span.last_weight, wi = task.rows.inner;
    sums[count] = 0;  // read, but not used, as the fourth value of a last pixel with three
    int rows = span.last - span.first - 1;
    if (rows <= 0) {
        for (int i = 0; i < count; ++i) sums[i] = wf * first[i] + wl * last[i];
        return;
    }
    if (rows == 1) {
        for (int i = 0; i < count; ++i) sums[i] = wf * first[i] + wl * last[i] + wi * row[i];
        return;
    }
    const std::uint16_t* const byte_sums = task.byte_sums;
    const int some = smaller(rows, kByteSumRows);
    sum_bytes(task.byte_sums, row, stride, some, count);
    for (int i = 0; i < count; ++i) sums[i] = wf * first[i] + wl * last[i] + wi * byte_sums[i];
    for (rows -= some, row += some * stride; rows > 0; rows -= kByteSumRows, row += kByteSumRows * stride) {
        sum_bytes(task.byte_sums, row, stride, smaller(rows, kByteSumRows), count);
        for (int i = 0; i < count; ++i) sums[i] += wi * byte_sums[i];
    }
}

[[gnu::always_inline]] inline Int4 load_four(const std::int32_t* from) {
    Int4 value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

// Output pixels [begin, end) of a row, from the sums of the input pixels from `origin` on. With three
// channels, the fourth value is the next pixel's first, and is not used.
template <int kChannels, bool kBgr>
void write_colours(const ResizeTask& task, std::uint8_t* out, int begin, int end, int origin) {
    const std::int64_t longest = static_cast<std::int64_t>(task.inner_pixels) * kChannels;
    for (int x = begin; x < end; ++x) {
        const Span& span = task.columns.spans[x];
        const std::int32_t* const first =
            task.row_sums + static_cast<std::int64_t>(span.first - origin) * kChannels;
        const std::int32_t* const last =
            task.row_sums + static_cast<std::int64_t>(span.last - origin) * kChannels;
        Double4 total = __builtin_convertvector(load_four(first), Double4) * task.first_weights[x] +
                        __builtin_convertvector(load_four(last), Double4) * task.last_weights[x];
        for (const std::int32_t* at = first + kChannels; at < last;) {
            const std::int32_t* const stop = last - at > longest ? at + longest : last;
            Int4 inner = load_four(at);
            for (at += kChannels; at < stop; at += kChannels) inner += load_four(at);
            total += __builtin_convertvector(inner, Double4) * task.inner_weight;
        }
        const Int4 pixel = __builtin_convertvector(total * task.scale + task.bias, Int4);
        const std::uint32_t packed = V::pack_bytes(pixel, kBgr ? 0x00000408 : 0x00080400);
        if (x + 1 < end) {
            __builtin_memcpy(out + 3 * x, &packed, 4);  // the fourth byte is the next pixel's to write
        } else {
            __builtin_memcpy(out + 3 * x, &packed, 3);
        }
    }
}

void write_greys(const ResizeTask& task, std::uint8_t* out, int begin, int end, int origin) {
    for (int x = begin; x < end; ++x) {
        const Span& span = task.columns.spans[x];
        const std::int32_t* const first = task.row_sums + (span.first - origin);
        const std::int32_t* const last = task.row_sums + (span.last - origin);
        double total = *first * task.first_weights[x] + *last * task.last_weights[x];
        for (const std::int32_t* at = first + 1; at < last;) {
            const std::int32_t* const stop = last - at > task.inner_pixels ? at + task.inner_pixels : last;
            std::int32_t inner = *at;
            for (++at; at < stop; ++at) inner += *at;
            total += inner * task.inner_weight;
        }
        const std::int32_t grey = static_cast<std::int32_t>(total * task.scale + task.bias);
        out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = static_cast<std::uint8_t>(grey);
    }
}

// A row whose size stays: sixteen bytes at a time give four or five pixels. The bytes beyond those are the
// next step's to write; the last pixels, without room for that, come one by one.
void copy_row(const ResizeTask& task, std::uint8_t* out, const std::uint8_t* in) {
    const int channels = task.image.channels, width = task.width;
    if (channels == 3 && !task.image.bgr) {
        __builtin_memcpy(out, in, 3 * static_cast<std::size_t>(width));
        return;
    }
    const int red = channels == 1 ? 0 : task.image.bgr ? 2 : 0;
    const int green = channels == 1 ? 0 : 1, blue = channels == 1 ? 0 : 2 - red;
    const int step = channels == 4 ? 4 : 5;
    std::uint8_t pick[16] = {};
    for (int i = 0; i < step; ++i) {
        pick[3 * i] = static_cast<std::uint8_t>(channels * i + red);
        pick[3 * i + 1] = static_cast<std::uint8_t>(channels * i + green);
        pick[3 * i + 2] = static_cast<std::uint8_t>(channels * i + blue);
    }
    const int room = channels == 1 ? 16 : 6;  // pixels that make sixteen bytes, read and written
    int x = 0;
    for (; width - x >= room; x += step)
        V::shuffle_bytes(out + 3 * x, in + static_cast<std::int64_t>(channels) * x, pick);
    for (; x < width; ++x) {
        const std::uint8_t* const pixel = in + static_cast<std::int64_t>(channels) * x;
        out[3 * x] = pixel[red];
        out[3 * x + 1] = pixel[green];
        out[3 * x + 2] = pixel[blue];
    }
}

void resize_row(const ResizeTask& task, int y) {
    std::uint8_t* const out = task.out + y * task.out_row_stride;
    const Span* const spans = task.columns.spans;
    const int channels = task.image.channels;
    // As many output pixels at a time as the buffers hold input for.
    for (int begin = 0, end; begin < task.width; begin = end) {
        const int origin = spans[begin].first;
        const int room = origin + task.tile_pixels;
        end = task.width;
        if (spans[end - 1].last >= room)
            for (end = begin + 1; spans[end].last < room;) ++end;
        const int pixels = spans[end - 1].last + 1 - origin;
        sum_rows(task, task.rows.spans[y], task.image.pixels + static_cast<std::int64_t>(origin) * channels,
                 pixels * channels);
        if (channels == 1) {
            write_greys(task, out, begin, end, origin);
        } else if (channels == 3) {
            (task.image.bgr ? write_colours<3, true> : write_colours<3, false>)(task, out, begin, end,
                                                                                origin);
        } else {
            (task.image.bgr ? write_colours<4, true> : write_colours<4, false>)(task, out, begin, end,
                                                                                origin);
        }
    }
}

void resize_rows(ResizeTask& task) {
    for (int y = task.row_begin; y < task.row_end; ++y) {
        if (task.copy) {
            copy_row(task, task.out + y * task.out_row_stride, task.image.pixels + y * task.image.row_stride);
        } else {
            resize_row(task, y);
        }
    }
    task.kernel = V::name;
}
