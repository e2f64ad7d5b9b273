// The fusion of rows [row_begin, row_end) of one image, written once and compiled once per instruction set.
//
// The including file defines, in the same unnamed namespace, a structure V with `Reg` (a vector of `lanes`
// floats) and its few operations. Everything here is a plain function on raw pointers. What a loop's bounds
// depend on is a template's parameter, so that its small arrays of vectors stay in registers.
//
//   1. combine          both maps of a level become one, at the level's own small size
//   2. level_row        a row of that, interpolated to the knot columns
//   3. make_knot_rows   level rows, interpolated to a knot row and summed
//   4. full_row         a knot row, expanded (or smoothed) to full width
//   5. write_*          output rows between two knot rows: one multiply-add and one store per pixel
//
// Rows are made a few at a time, when the first of them is needed, and kept in small rings: they stay near,
// and the fused map is written exactly once.

using Reg = V::Reg;

// How many vectors are summed side by side, so that one multiply-add need not wait for the one before it.
constexpr int kSmoothBlock = 4;

int smaller(int a, int b) { return a < b ? a : b; }

// The running maximum. Where it is, is looked up afterwards among the few rows that held it.
struct Best {
    float value;
    int row, row_count;
};

void note_rows(Best* best, Reg row_maximum, int row, int row_count) {
    if (!V::any_greater(row_maximum, V::broadcast(best->value))) return;
    float lane[V::lanes];
    V::store(lane, row_maximum);
    for (int i = 0; i < V::lanes; ++i)
        if (lane[i] > best->value) best->value = lane[i];
    best->row = row;
    best->row_count = row_count;
}

[[gnu::always_inline]] inline Reg load_first(const float* from, int count) {
    float lane[V::lanes] = {};
    for (int i = 0; i < count; ++i) lane[i] = from[i];
    return V::load(lane);
}

void store_first(float* to, Reg value, int count) {
    float lane[V::lanes];
    V::store(lane, value);
    for (int i = 0; i < count; ++i) to[i] = lane[i];
}

// Level map = sum of gain * (map - mean) over the two maps. Returns whether a value of it is NaN, infinite,
// or too large for the fused map to be finite. All that follows are sums and products of weighted means of
// these values, so it is enough to look here, where they are few. An input that is not finite gives a value
// that is not, also with a gain of zero; and a value times zero is zero unless it is NaN or infinite.
bool combine(const float* a, const float* b, float mean_a, float mean_b, float gain_a, float gain_b,
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

Reg lerp(Reg fraction, Reg from, Reg to) { return V::multiply_add(fraction, V::subtract(to, from), from); }

// Linear interpolation along each of several rows, to whole vectors.
void expand(const float* source, std::ptrdiff_t source_stride, const LinearAxis& axis, float* out,
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

float* slot_of(const RowRing& ring, int row) {
    return ring.rows + static_cast<std::size_t>(row & (ring.slots - 1)) * ring.stride;
}

// Whether the chunk with this row still has to be made; it then counts as made.
[[gnu::always_inline]] inline bool claim(const RowRing& ring, int row) {
    const int chunk = static_cast<int>(static_cast<unsigned>(row) / kChunkRows);
    std::int32_t* tag = ring.tag + (chunk & (ring.slots / kChunkRows - 1));
    if (__builtin_expect(*tag == chunk, 1)) return false;
    *tag = chunk;
    return true;
}

struct Rows {
    int first, count;
};

Rows chunk_of(int row, int row_count) {
    const int first = row / kChunkRows * kChunkRows;
    return {first, smaller(kChunkRows, row_count - first)};
}

// A row of one combined level at the grid's knot columns.
[[gnu::always_inline]] inline const float* level_row(const Plan& plan, const Workspace& work,
                                                     const Grid& grid, int i, const RowRing& ring, int row) {
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
template <int kLevels>
void make_knot_rows(const Plan& plan, const Workspace& work, const Grid& grid, const RowRing& ring,
                    Rows chunk) {
    RowRing level_ring[kLevels];
    for (int i = 0; i < kLevels; ++i) level_ring[i] = work.level_rows[grid.level[i]];
    const int width = grid.columns.sources;
    for (int row = chunk.first; row < chunk.first + chunk.count; ++row) {
        const float *top[kLevels], *bottom[kLevels];
        Reg fraction[kLevels];
        for (int i = 0; i < kLevels; ++i) {
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
            for (int i = 1; i < kLevels; ++i)
                sum = V::add(sum, lerp(fraction[i], V::load(top[i] + x), V::load(bottom[i] + x)));
            V::store(out + x, sum);
        }
    }
}

template <int kRows>
void smooth_block(const float* source, std::ptrdiff_t stride, const ColumnBand& band, float* const* out) {
    const float* weight = band.weight;
    for (int x = 0; x < band.outputs; x += V::lanes) {
        const float* from = source + band.start[x / V::lanes];
        Reg sum[kRows];
        for (int r = 0; r < kRows; ++r) sum[r] = V::broadcast(0.0f);
        for (int k = 0; k < band.taps; ++k, weight += V::lanes) {
            const Reg w = V::load(weight);
            for (int r = 0; r < kRows; ++r)
                sum[r] = V::multiply_add(V::broadcast(from[r * stride + k]), w, sum[r]);
        }
        for (int r = 0; r < kRows; ++r) V::store(out[r] + x, sum[r]);
    }
}

// Smooths rows along themselves, into the same rows of the ring.
void smooth_along_rows(const float* source, std::ptrdiff_t stride, const ColumnBand& band,
                       const RowRing& ring, Rows rows) {
    float* out[kSmoothBlock];
    int r = 0;
    for (; r + kSmoothBlock <= rows.count; r += kSmoothBlock) {
        for (int i = 0; i < kSmoothBlock; ++i) out[i] = slot_of(ring, rows.first + r + i);
        smooth_block<kSmoothBlock>(source + r * stride, stride, band, out);
    }
    for (; r < rows.count; ++r) {
        out[0] = slot_of(ring, rows.first + r);
        smooth_block<1>(source + r * stride, stride, band, out);
    }
}

// A knot row of a grid of so many levels, at full width.
template <int kLevels>
[[gnu::always_inline]] inline const float* full_row(const Plan& plan, const Workspace& work, int grid_index,
                                                    int row) {
    const RowRing& ring = work.full_rows[grid_index];
    if (claim(ring, row)) {
        const Grid& grid = plan.grid[grid_index];
        const Rows chunk = chunk_of(row, grid.rows.sources);
        const RowRing& knots = work.knot_rows[grid_index];
        make_knot_rows<kLevels>(plan, work, grid, knots, chunk);
        const float* from = slot_of(knots, chunk.first);
        if (plan.smooth)
            smooth_along_rows(from, knots.stride, plan.smooth_columns, ring, chunk);
        else
            expand(from, knots.stride, grid.columns, slot_of(ring, chunk.first), ring.stride, chunk.count);
    }
    return slot_of(ring, row);
}

// Visits vectors that cover a row of at least one vector: the first as it comes, then aligned ones, then one
// that ends with the row. They overlap where the row is no multiple of a vector; what overlaps is computed
// twice, to the same bits.
struct Cover {
    int x, next, last;

    Cover(const float* row, int width) : x(0), last(width - V::lanes) {
        const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(row) / sizeof(float) % V::lanes;
        next = V::lanes - static_cast<int>(misaligned);
    }
    bool more() const { return x <= last; }
    void step() {
        x = x == last ? last + 1 : smaller(next, last);
        next = x + V::lanes;
    }
};

// What a strip's output rows lie between, in one grid.
struct Between {
    const float *top, *bottom;  // knot rows at full width
    const float* fraction;      // of each output row
};

// Rows lerp(top, bottom, fraction), or products of one for each grid. Rounding is monotonic, so within a
// strip every column of a single grid has its maximum in the first or in the last row, exactly.
template <int kGrids, int kRows>
Reg write_rows(const Between (&grid)[kGrids], float* out, int width) {
    if (width < V::lanes) {  // knot rows go on to a whole vector, with their last value
        float whole[kRows * V::lanes];
        const Reg maximum = write_rows<kGrids, kRows>(grid, whole, V::lanes);
        for (int r = 0; r < kRows; ++r)
            for (int x = 0; x < width; ++x) out[r * width + x] = whole[r * V::lanes + x];
        return maximum;
    }
    const float *top[kGrids], *bottom[kGrids];  // copies, which no store of a vector can change
    Reg t[kGrids][kRows];
    for (int g = 0; g < kGrids; ++g) {
        top[g] = grid[g].top;
        bottom[g] = grid[g].bottom;
        for (int r = 0; r < kRows; ++r) t[g][r] = V::broadcast(grid[g].fraction[r]);
    }
    Reg maximum = V::broadcast(-__builtin_inff());
    for (Cover at(out, width); at.more(); at.step()) {
        Reg p[kGrids], q[kGrids];
        for (int g = 0; g < kGrids; ++g) {
            p[g] = V::load(top[g] + at.x);
            q[g] = V::subtract(V::load(bottom[g] + at.x), p[g]);
        }
        float* to = out + at.x;
        for (int r = 0; r < kRows; ++r, to += width) {
            Reg value = V::multiply_add(t[0][r], q[0], p[0]);
            for (int g = 1; g < kGrids; ++g) value = V::multiply(value, V::multiply_add(t[g][r], q[g], p[g]));
            if (kGrids > 1 || r == 0 || r == kRows - 1) maximum = V::maximum(value, maximum);
            V::store(to, value);
        }
    }
    return maximum;
}

// The same for a number of rows that is known only now.
template <int kGrids, int kRows = kMaxStripRows>
Reg write_some_rows(const Between (&grid)[kGrids], int rows, float* out, int width) {
    if constexpr (kRows > 1)
        if (rows < kRows) return write_some_rows<kGrids, kRows - 1>(grid, rows, out, width);
    return write_rows<kGrids, kRows>(grid, out, width);
}

// `kVectors` vectors at column x of the sum over k of weight[k] * ring row (first + k).
template <int kVectors>
void add_weighted(const RowRing& ring, int first, const float* weight, int taps, int x, Reg* sum) {
    for (int v = 0; v < kVectors; ++v) sum[v] = V::broadcast(0.0f);
    const int before_wrap = smaller(taps, ring.slots - (first & (ring.slots - 1)));
    const float* from = slot_of(ring, first) + x;
    for (int k = 0; k < taps; ++k, from += ring.stride) {
        if (k == before_wrap) from = ring.rows + x;
        const Reg w = V::broadcast(weight[k]);
        for (int v = 0; v < kVectors; ++v) sum[v] = V::multiply_add(w, V::load(from + v * V::lanes), sum[v]);
    }
}

// An output row that is a weighted sum of rows.
Reg write_weighted(const RowRing& ring, int first, const float* weight, int taps, float* out, int width) {
    Reg maximum = V::broadcast(-__builtin_inff());
    Reg sum[kSmoothBlock];
    int x = 0;
    for (; x + kSmoothBlock * V::lanes <= width; x += kSmoothBlock * V::lanes) {
        add_weighted<kSmoothBlock>(ring, first, weight, taps, x, sum);
        for (int v = 0; v < kSmoothBlock; ++v) {
            maximum = V::maximum(sum[v], maximum);
            V::store(out + x + v * V::lanes, sum[v]);
        }
    }
    for (; x < width; x += V::lanes) {
        add_weighted<1>(ring, first, weight, taps, x, sum);
        maximum = V::maximum(sum[0], maximum);
        if (x + V::lanes <= width)
            V::store(out + x, sum[0]);
        else
            store_first(out + x, sum[0], width - x);
    }
    return maximum;
}

void write_mask(const float* values, float threshold, std::uint8_t* mask, std::size_t count) {
    const Reg limit = V::broadcast(threshold);
    std::size_t i = 0;
    for (; i + V::lanes <= count; i += V::lanes) V::store_greater(mask + i, V::load(values + i), limit);
    for (; i < count; ++i) mask[i] = values[i] > threshold;
}

// The product of the grids, or what one grid of all levels sums up to, strip by strip.
template <int kGrids>
void fuse_linear(const Plan& plan, const Workspace& work, Task* task, Best* best) {
    for (int s = 0; s < plan.strip_count; ++s) {
        int first = plan.strips[s].first, end = first + plan.strips[s].count;
        if (first < task->row_begin) first = task->row_begin;
        end = smaller(end, task->row_end);
        if (first >= end) continue;
        Between between[kGrids];
        for (int g = 0; g < kGrids; ++g) {
            const LinearAxis& axis = plan.grid[g].rows;
            const int knot = axis.index[first];
            between[g].top = full_row<RSTPM_LEVELS / kGrids>(plan, work, g, knot);
            between[g].bottom =
                full_row<RSTPM_LEVELS / kGrids>(plan, work, g, smaller(knot + 1, axis.sources - 1));
            between[g].fraction = axis.fraction + first;
        }
        const std::size_t offset = static_cast<std::size_t>(first) * plan.width;
        float* const out = task->out + offset;
        note_rows(best, write_some_rows<kGrids>(between, end - first, out, plan.width), first, end - first);
        if (task->mask != nullptr) {
            const std::size_t count = static_cast<std::size_t>(end - first) * plan.width;
            write_mask(out, task->threshold, task->mask + offset, count);
        }
    }
}

// Smoothing is separable, and the sum of the levels is linear between knots. So only knot rows are smoothed
// along themselves; a band of those then gives an output row.
void fuse_smoothed(const Plan& plan, const Workspace& work, Task* task, Best* best) {
    const RowBand& band = plan.smooth_rows;
    int knot = band.start[task->row_begin];
    for (int y = task->row_begin; y < task->row_end; ++y) {
        const int first = band.start[y];
        for (; knot < first + band.taps; ++knot) full_row<RSTPM_LEVELS>(plan, work, 0, knot);
        const std::size_t offset = static_cast<std::size_t>(y) * plan.width;
        const float* weight = band.weight + static_cast<std::size_t>(y) * band.taps;
        const Reg maximum =
            write_weighted(work.full_rows[0], first, weight, band.taps, task->out + offset, plan.width);
        note_rows(best, maximum, y, 1);
        if (task->mask != nullptr)
            write_mask(task->out + offset, task->threshold, task->mask + offset, plan.width);
    }
}

void find_best(const Plan& plan, const Best& best, Task* task) {
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

void forget_rows(const RowRing& ring) {
    for (int chunk = 0; chunk < ring.slots / kChunkRows; ++chunk) ring.tag[chunk] = -1;
}

void fuse_rows(const Plan& plan, const Workspace& work, Task& task) {
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
    if (plan.mode == RSTPM_PAPER)
        fuse_linear<RSTPM_LEVELS>(plan, work, &task, &best);
    else if (plan.smooth)
        fuse_smoothed(plan, work, &task, &best);
    else
        fuse_linear<1>(plan, work, &task, &best);
    find_best(plan, best, &task);
}
