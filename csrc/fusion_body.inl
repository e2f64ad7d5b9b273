// The fusion of rows [row_begin, row_end) of one image, written once and compiled once per instruction set.
//
// The including file defines, in the same unnamed namespace, a structure V with `Reg` (a vector of `lanes`
// floats) and its few operations. Everything here is a plain function on raw pointers.
//
//   1. combine          both maps of a level become one, at the level's own small size
//   2. level_row        a row of that, interpolated to the knot columns
//   3. make_knot_rows   level rows, interpolated to a knot row and summed
//   4. full_row         a knot row, expanded (or smoothed) to full width
//   5. write_*          output rows between two knot rows: one multiply-add and one store per pixel
//
// Rows are made a few at a time, when the first of them is needed, and kept in small rings: they stay near,
// and the fused map is written exactly once.

#define RSTPM_INLINE static inline __attribute__((always_inline))
// Keeps the small arrays of vectors that such a loop fills in registers.
#if defined(__clang__)
#define RSTPM_UNROLL _Pragma("unroll")
#else
#define RSTPM_UNROLL _Pragma("GCC unroll 8")
#endif

using Reg = V::Reg;

// How many vectors are summed side by side, so that one multiply-add need not wait for the one before it.
constexpr int kSmoothBlock = 4;

RSTPM_INLINE int smaller(int a, int b) { return a < b ? a : b; }

// The running maximum. Where it is, is looked up afterwards among the few rows that held it.
struct Best {
    float value;
    int row, row_count;
};

RSTPM_INLINE void note_rows(Best* best, Reg row_maximum, int row, int row_count) {
    if (!V::any_greater(row_maximum, V::broadcast(best->value))) return;
    float lane[V::lanes];
    V::store(lane, row_maximum);
    for (int i = 0; i < V::lanes; ++i)
        if (lane[i] > best->value) best->value = lane[i];
    best->row = row;
    best->row_count = row_count;
}

RSTPM_INLINE Reg load_first(const float* from, int count) {
    float lane[V::lanes] = {};
    for (int i = 0; i < count; ++i) lane[i] = from[i];
    return V::load(lane);
}

RSTPM_INLINE void store_first(float* to, Reg value, int count) {
    float lane[V::lanes];
    V::store(lane, value);
    for (int i = 0; i < count; ++i) to[i] = lane[i];
}

// Level map = sum of gain * (map - mean) over the two maps. Returns whether a value of it is NaN, infinite,
// or too large for the fused map to be finite. All that follows are sums and products of weighted means of
// these values, so it is enough to look here, where they are few. An input that is not finite gives a value
// that is not, also with a gain of zero; and a value times zero is zero unless it is NaN or infinite.
static bool combine(const float* a, const float* b, float mean_a, float mean_b, float gain_a, float gain_b,
                    float headroom, int count, float* out) {
    const Reg zero = V::broadcast(0.0f);
    const Reg vmean_a = V::broadcast(mean_a), vmean_b = V::broadcast(mean_b);
    const Reg vgain_a = V::broadcast(gain_a), vgain_b = V::broadcast(gain_b);
    const Reg vheadroom = V::broadcast(headroom);
    Reg check = zero;
    for (int x = 0; x < count; x += V::lanes) {
        const int rest = count - x;
        const Reg va = rest >= V::lanes ? V::load(a + x) : load_first(a + x, rest);
        const Reg vb = rest >= V::lanes ? V::load(b + x) : load_first(b + x, rest);
        const Reg scaled_a = V::multiply(V::subtract(va, vmean_a), vgain_a);
        const Reg value = V::multiply_add(V::subtract(vb, vmean_b), vgain_b, scaled_a);
        check = V::multiply_add(V::multiply(value, vheadroom), zero, check);
        V::store(out + x, value);
    }
    float lane[V::lanes];
    V::store(lane, check);
    bool finite = true;
    for (int i = 0; i < V::lanes; ++i) finite = finite && lane[i] == 0.0f;
    return !finite;
}

RSTPM_INLINE Reg lerp(Reg fraction, Reg from, Reg to) {
    return V::multiply_add(fraction, V::subtract(to, from), from);
}

// Linear interpolation along each of several rows, to whole vectors.
static void expand(const float* source, std::ptrdiff_t source_stride, const LinearAxis& axis, float* out,
                   std::ptrdiff_t out_stride, int rows) {
    const int outputs = axis.outputs;
    const bool permutable = axis.permutable;
    for (int x = 0; x < outputs; x += V::lanes) {
        const Reg fraction = V::load(axis.fraction + x);
        float* to = out + x;
        if (permutable) {
            const float* window = source + axis.base[x / V::lanes];
            const V::Pick pick = V::load_pick(axis.relative + x);
            for (int r = 0; r < rows; ++r, window += source_stride, to += out_stride) {
                Reg left, right;
                V::pick_pairs(window, pick, &left, &right);
                V::store(to, lerp(fraction, left, right));
            }
        } else {
            const float* from = source;
            for (int r = 0; r < rows; ++r, from += source_stride, to += out_stride) {
                const Reg left = V::gather(from, axis.index + x);
                const Reg right = V::gather(from + 1, axis.index + x);
                V::store(to, lerp(fraction, left, right));
            }
        }
    }
}

RSTPM_INLINE float* slot_of(const RowRing& ring, int row) {
    return ring.rows + static_cast<std::size_t>(row & (ring.slots - 1)) * ring.stride;
}

// Whether the chunk with this row still has to be made; it then counts as made.
RSTPM_INLINE bool claim(const RowRing& ring, int row) {
    const int chunk = static_cast<int>(static_cast<unsigned>(row) / kChunkRows);
    std::int32_t* tag = ring.tag + (chunk & (ring.slots / kChunkRows - 1));
    if (__builtin_expect(*tag == chunk, 1)) return false;
    *tag = chunk;
    return true;
}

struct Rows {
    int first, count;
};

RSTPM_INLINE Rows chunk_of(int row, int row_count) {
    const int first = row / kChunkRows * kChunkRows;
    return {first, smaller(kChunkRows, row_count - first)};
}

// A row of one combined level at the grid's knot columns.
RSTPM_INLINE const float* level_row(const Plan& plan, const Workspace& work, const Grid& grid, int i,
                                    const RowRing& ring, int row) {
    if (claim(ring, row)) {
        const int level = grid.level[i];
        const Rows chunk = chunk_of(row, plan.level_height[level]);
        const int width = plan.level_width[level];
        expand(work.combined[level] + static_cast<std::size_t>(chunk.first) * width, width,
               grid.knot_columns[i], slot_of(ring, chunk.first), ring.stride, chunk.count);
    }
    return slot_of(ring, row);
}

// Knot rows of a grid at its knot columns: sums of level rows, each interpolated between two.
RSTPM_INLINE void make_knot_rows(const Plan& plan, const Workspace& work, const Grid& grid,
                                 const RowRing& ring, Rows chunk, const int level_count) {
    RowRing level_ring[RSTPM_LEVELS];
    RSTPM_UNROLL
    for (int i = 0; i < level_count; ++i) level_ring[i] = work.level_rows[grid.level[i]];
    const int width = grid.columns.sources;
    for (int row = chunk.first; row < chunk.first + chunk.count; ++row) {
        const float *top[RSTPM_LEVELS], *bottom[RSTPM_LEVELS];
        Reg fraction[RSTPM_LEVELS];
        RSTPM_UNROLL
        for (int i = 0; i < level_count; ++i) {
            const LinearAxis& axis = grid.knot_rows[i];
            const int first = axis.index[row];
            const int second = smaller(first + 1, axis.sources - 1);
            top[i] = level_row(plan, work, grid, i, level_ring[i], first);
            bottom[i] = level_row(plan, work, grid, i, level_ring[i], second);
            fraction[i] = V::broadcast(axis.fraction[row]);
        }
        float* out = slot_of(ring, row);
        for (int x = 0; x < width; x += V::lanes) {
            Reg sum = lerp(fraction[0], V::load(top[0] + x), V::load(bottom[0] + x));
            RSTPM_UNROLL
            for (int i = 1; i < level_count; ++i)
                sum = V::add(sum, lerp(fraction[i], V::load(top[i] + x), V::load(bottom[i] + x)));
            V::store(out + x, sum);
        }
    }
}

static void make_knot_rows_of_one(const Plan& plan, const Workspace& work, const Grid& grid,
                                  const RowRing& ring, Rows chunk) {
    make_knot_rows(plan, work, grid, ring, chunk, 1);
}

static void make_knot_rows_of_all(const Plan& plan, const Workspace& work, const Grid& grid,
                                  const RowRing& ring, Rows chunk) {
    make_knot_rows(plan, work, grid, ring, chunk, RSTPM_LEVELS);
}

RSTPM_INLINE void smooth_block(const float* source, std::ptrdiff_t stride, const ColumnBand& band,
                               float* const* out, const int rows) {
    const float* weight = band.weight;
    for (int x = 0; x < band.outputs; x += V::lanes) {
        const float* from = source + band.start[x / V::lanes];
        Reg sum[kSmoothBlock];
        for (int r = 0; r < rows; ++r) sum[r] = V::broadcast(0.0f);
        for (int k = 0; k < band.taps; ++k, weight += V::lanes) {
            const Reg w = V::load(weight);
            for (int r = 0; r < rows; ++r)
                sum[r] = V::multiply_add(V::broadcast(from[r * stride + k]), w, sum[r]);
        }
        for (int r = 0; r < rows; ++r) V::store(out[r] + x, sum[r]);
    }
}

// Smooths rows along themselves, into the same rows of the ring.
static void smooth_along_rows(const float* source, std::ptrdiff_t stride, const ColumnBand& band,
                              const RowRing& ring, Rows rows) {
    float* out[kSmoothBlock];
    int r = 0;
    for (; r + kSmoothBlock <= rows.count; r += kSmoothBlock) {
        for (int i = 0; i < kSmoothBlock; ++i) out[i] = slot_of(ring, rows.first + r + i);
        smooth_block(source + r * stride, stride, band, out, kSmoothBlock);
    }
    for (; r < rows.count; ++r) {
        out[0] = slot_of(ring, rows.first + r);
        smooth_block(source + r * stride, stride, band, out, 1);
    }
}

// A knot row of a grid at full width.
RSTPM_INLINE const float* full_row(const Plan& plan, const Workspace& work, int grid_index, int row) {
    const Grid& grid = plan.grid[grid_index];
    const RowRing& ring = work.full_rows[grid_index];
    if (claim(ring, row)) {
        const Rows chunk = chunk_of(row, grid.rows.sources);
        const RowRing& knots = work.knot_rows[grid_index];
        if (grid.level_count == 1)
            make_knot_rows_of_one(plan, work, grid, knots, chunk);
        else
            make_knot_rows_of_all(plan, work, grid, knots, chunk);
        const float* from = slot_of(knots, chunk.first);
        if (plan.smooth && plan.mode == RSTPM_NORMALIZED)
            smooth_along_rows(from, knots.stride, plan.smooth_columns, ring, chunk);
        else
            expand(from, knots.stride, grid.columns, slot_of(ring, chunk.first), ring.stride, chunk.count);
    }
    return slot_of(ring, row);
}

// Visits vectors that cover a row of at least one vector: the first as it comes, then aligned ones, then one
// that ends with the row. They overlap where the row is no multiple of a vector; what overlaps is computed
// twice, to the same bits.
RSTPM_INLINE int aligned_start(const float* row) {
    const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(row) / sizeof(float) % V::lanes;
    return V::lanes - static_cast<int>(misaligned);
}

#define RSTPM_FOR_EACH_VECTOR(x, width, out)                                                     \
    for (int x = 0, x##_last = (width) - V::lanes, x##_next = aligned_start(out); x <= x##_last; \
         x = x == x##_last ? (width) : smaller(x##_next, x##_last), x##_next = x + V::lanes)

// Rows lerp(top, bottom, fraction[0..rows)). Rounding is monotonic, so within a strip every column has its
// maximum in the first or in the last row, exactly.
RSTPM_INLINE Reg write_linear(const float* top, const float* bottom, const float* fraction, float* out,
                              int width, const int rows) {
    Reg t[kMaxStripRows];
    RSTPM_UNROLL
    for (int r = 0; r < rows; ++r) t[r] = V::broadcast(fraction[r]);
    Reg maximum = V::broadcast(-__builtin_inff());
    if (width < V::lanes) {
        const Reg p = V::load(top), q = V::subtract(V::load(bottom), p);
        for (int r = 0; r < rows; ++r) {
            const Reg value = V::multiply_add(t[r], q, p);
            maximum = V::maximum(value, maximum);
            store_first(out + static_cast<std::size_t>(r) * width, value, width);
        }
        return maximum;
    }
    RSTPM_FOR_EACH_VECTOR(x, width, out) {
        const Reg p = V::load(top + x), q = V::subtract(V::load(bottom + x), p);
        float* to = out + x;
        const Reg first = V::multiply_add(t[0], q, p);
        Reg value = first;
        V::store(to, first);
        RSTPM_UNROLL
        for (int r = 1; r < rows; ++r) {
            to += width;
            value = V::multiply_add(t[r], q, p);
            V::store(to, value);
        }
        maximum = V::maximum(first, V::maximum(value, maximum));
    }
    return maximum;
}

// The product of three interpolated rows.
RSTPM_INLINE Reg write_product(const float* const top[RSTPM_LEVELS], const float* const bottom[RSTPM_LEVELS],
                               const float* const fraction[RSTPM_LEVELS], float* out, int width,
                               const int rows) {
    const float *top0 = top[0], *top1 = top[1], *top2 = top[2];
    const float *bottom0 = bottom[0], *bottom1 = bottom[1], *bottom2 = bottom[2];
    Reg t0[kMaxStripRows], t1[kMaxStripRows], t2[kMaxStripRows];
    RSTPM_UNROLL
    for (int r = 0; r < rows; ++r) {
        t0[r] = V::broadcast(fraction[0][r]);
        t1[r] = V::broadcast(fraction[1][r]);
        t2[r] = V::broadcast(fraction[2][r]);
    }
    Reg maximum = V::broadcast(-__builtin_inff());
    const bool narrow = width < V::lanes;
    RSTPM_FOR_EACH_VECTOR(x, narrow ? V::lanes : width, out) {
        const Reg p0 = V::load(top0 + x), q0 = V::subtract(V::load(bottom0 + x), p0);
        const Reg p1 = V::load(top1 + x), q1 = V::subtract(V::load(bottom1 + x), p1);
        const Reg p2 = V::load(top2 + x), q2 = V::subtract(V::load(bottom2 + x), p2);
        float* to = out + x;
        RSTPM_UNROLL
        for (int r = 0; r < rows; ++r, to += width) {
            const Reg value =
                V::multiply(V::multiply(V::multiply_add(t0[r], q0, p0), V::multiply_add(t1[r], q1, p1)),
                            V::multiply_add(t2[r], q2, p2));
            maximum = V::maximum(value, maximum);
            if (narrow)
                store_first(to, value, width);
            else
                V::store(to, value);
        }
    }
    return maximum;
}

// `vectors` vectors at column x of the sum over k of weight[k] * ring row (first + k).
RSTPM_INLINE void add_weighted(const RowRing& ring, int first, const float* weight, int taps, int x, Reg* sum,
                               const int vectors) {
    for (int v = 0; v < vectors; ++v) sum[v] = V::broadcast(0.0f);
    const int before_wrap = smaller(taps, ring.slots - (first & (ring.slots - 1)));
    const float* from = slot_of(ring, first) + x;
    for (int k = 0; k < taps; ++k, from += ring.stride) {
        if (k == before_wrap) from = ring.rows + x;
        const Reg w = V::broadcast(weight[k]);
        for (int v = 0; v < vectors; ++v) sum[v] = V::multiply_add(w, V::load(from + v * V::lanes), sum[v]);
    }
}

// An output row that is a weighted sum of rows.
RSTPM_INLINE Reg write_weighted(const RowRing& ring, int first, const float* weight, int taps, float* out,
                                int width) {
    Reg maximum = V::broadcast(-__builtin_inff());
    Reg sum[kSmoothBlock];
    int x = 0;
    for (; x + kSmoothBlock * V::lanes <= width; x += kSmoothBlock * V::lanes) {
        add_weighted(ring, first, weight, taps, x, sum, kSmoothBlock);
        for (int v = 0; v < kSmoothBlock; ++v) {
            maximum = V::maximum(sum[v], maximum);
            V::store(out + x + v * V::lanes, sum[v]);
        }
    }
    for (; x < width; x += V::lanes) {
        add_weighted(ring, first, weight, taps, x, sum, 1);
        maximum = V::maximum(sum[0], maximum);
        if (x + V::lanes <= width)
            V::store(out + x, sum[0]);
        else
            store_first(out + x, sum[0], width - x);
    }
    return maximum;
}

static void write_mask(const float* values, float threshold, std::uint8_t* mask, std::size_t count) {
    const Reg limit = V::broadcast(threshold);
    std::size_t i = 0;
    for (; i + V::lanes <= count; i += V::lanes) V::store_greater(mask + i, V::load(values + i), limit);
    for (; i < count; ++i) mask[i] = values[i] > threshold;
}

// With the number of rows as a constant, a strip's fractions stay in registers.
static Reg write_linear_strip(const float* top, const float* bottom, const float* fraction, float* out,
                              int width, int rows) {
    switch (rows) {
        case 1: return write_linear(top, bottom, fraction, out, width, 1);
        case 2: return write_linear(top, bottom, fraction, out, width, 2);
        case 3: return write_linear(top, bottom, fraction, out, width, 3);
        case 4: return write_linear(top, bottom, fraction, out, width, 4);
        case 5: return write_linear(top, bottom, fraction, out, width, 5);
        case 6: return write_linear(top, bottom, fraction, out, width, 6);
        case 7: return write_linear(top, bottom, fraction, out, width, 7);
        default: return write_linear(top, bottom, fraction, out, width, 8);
    }
}

static Reg write_product_strip(const float* const top[RSTPM_LEVELS], const float* const bottom[RSTPM_LEVELS],
                               const float* const fraction[RSTPM_LEVELS], float* out, int width, int rows) {
    switch (rows) {
        case 1: return write_product(top, bottom, fraction, out, width, 1);
        case 2: return write_product(top, bottom, fraction, out, width, 2);
        case 3: return write_product(top, bottom, fraction, out, width, 3);
        case 4: return write_product(top, bottom, fraction, out, width, 4);
        case 5: return write_product(top, bottom, fraction, out, width, 5);
        case 6: return write_product(top, bottom, fraction, out, width, 6);
        case 7: return write_product(top, bottom, fraction, out, width, 7);
        default: return write_product(top, bottom, fraction, out, width, 8);
    }
}

// Output rows [first, first + rows), all between the same two knot rows of every grid.
static Reg write_strip(const Plan& plan, const Workspace& work, int first, int rows, float* out) {
    const float *top[RSTPM_LEVELS], *bottom[RSTPM_LEVELS], *fraction[RSTPM_LEVELS];
    for (int g = 0; g < plan.grid_count; ++g) {
        const LinearAxis& axis = plan.grid[g].rows;
        const int knot = axis.index[first];
        top[g] = full_row(plan, work, g, knot);
        bottom[g] = full_row(plan, work, g, smaller(knot + 1, axis.sources - 1));
        fraction[g] = axis.fraction + first;
    }
    return plan.mode == RSTPM_NORMALIZED
               ? write_linear_strip(top[0], bottom[0], fraction[0], out, plan.width, rows)
               : write_product_strip(top, bottom, fraction, out, plan.width, rows);
}

static void fuse_linear(const Plan& plan, const Workspace& work, Task* task, Best* best) {
    for (int s = 0; s < plan.strip_count; ++s) {
        int first = plan.strips[s].first, end = first + plan.strips[s].count;
        if (first < task->row_begin) first = task->row_begin;
        end = smaller(end, task->row_end);
        if (first >= end) continue;
        const std::size_t offset = static_cast<std::size_t>(first) * plan.width;
        note_rows(best, write_strip(plan, work, first, end - first, task->out + offset), first, end - first);
        if (task->mask != nullptr) {
            const std::size_t count = static_cast<std::size_t>(end - first) * plan.width;
            write_mask(task->out + offset, task->threshold, task->mask + offset, count);
        }
    }
}

// Smooths the product of one strip along its rows into the ring.
static void smooth_product_strip(const Plan& plan, const Workspace& work, const Strip& strip) {
    write_strip(plan, work, strip.first, strip.count, work.product_strip);
    smooth_along_rows(work.product_strip, plan.width, plan.smooth_columns, work.smoothed_rows,
                      {strip.first, strip.count});
}

// Smoothing is separable. First along each row: a normalized map is linear in its knots, so there only knot
// rows need it; the paper's product has to be made in full. Then a band of those rows gives an output row.
static void fuse_smoothed(const Plan& plan, const Workspace& work, Task* task, Best* best) {
    const RowBand& band = plan.smooth_rows;
    const bool paper = plan.mode == RSTPM_PAPER;
    const RowRing& ring = paper ? work.smoothed_rows : work.full_rows[0];
    int strip = 0, knot = band.start[task->row_begin];
    while (paper && plan.strips[strip].first + plan.strips[strip].count <= band.start[task->row_begin])
        ++strip;

    for (int y = task->row_begin; y < task->row_end; ++y) {
        const int first = band.start[y], end = first + band.taps;
        if (paper) {
            for (; strip < plan.strip_count && plan.strips[strip].first < end; ++strip)
                smooth_product_strip(plan, work, plan.strips[strip]);
        } else {
            for (; knot < end; ++knot) full_row(plan, work, 0, knot);
        }
        const std::size_t offset = static_cast<std::size_t>(y) * plan.width;
        const float* weight = band.weight + static_cast<std::size_t>(y) * band.taps;
        const Reg maximum = write_weighted(ring, first, weight, band.taps, task->out + offset, plan.width);
        note_rows(best, maximum, y, 1);
        if (task->mask != nullptr)
            write_mask(task->out + offset, task->threshold, task->mask + offset, plan.width);
    }
}

static void find_best(const Plan& plan, const Best& best, Task* task) {
    const std::size_t begin = static_cast<std::size_t>(best.row) * plan.width;
    const std::size_t end = begin + static_cast<std::size_t>(best.row_count) * plan.width;
    const Reg value = V::broadcast(best.value);
    std::size_t i = begin;
    while (i + V::lanes <= end && !V::any_equal(V::load(task->out + i), value)) i += V::lanes;
    while (i < end && task->out[i] != best.value) ++i;
    if (i == end) i = begin;  // nothing compares equal to NaN
    // The last word, whatever the bounds are worth: a maximum that is none.
    if (!(best.value - best.value == 0.0f)) task->result.nonfinite = 1;
    task->result.score = task->result.nonfinite ? __builtin_inff() : best.value;
    task->result.row = static_cast<std::int32_t>(i / plan.width);
    task->result.column = static_cast<std::int32_t>(i % plan.width);
}

static void forget_rows(const RowRing& ring) {
    for (int chunk = 0; chunk < ring.slots / kChunkRows; ++chunk) ring.tag[chunk] = -1;
}

static void fuse_rows(const Plan& plan, const Workspace& work, Task& task) {
    task.kernel = V::name;
    task.result.nonfinite = 0;
    for (int l = 0; l < RSTPM_LEVELS; ++l) {
        const int pair = l + RSTPM_LEVELS;
        if (combine(task.map[l], task.map[pair], plan.mean[l], plan.mean[pair], plan.gain[l], plan.gain[pair],
                    plan.headroom, plan.level_height[l] * plan.level_width[l], work.combined[l]))
            task.result.nonfinite = 1;
        forget_rows(work.level_rows[l]);
    }
    for (int g = 0; g < plan.grid_count; ++g) forget_rows(work.full_rows[g]);

    Best best = {-__builtin_inff(), task.row_begin, task.row_end - task.row_begin};
    if (plan.smooth)
        fuse_smoothed(plan, work, &task, &best);
    else
        fuse_linear(plan, work, &task, &best);
    find_best(plan, best, &task);
}
