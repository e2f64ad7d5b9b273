#include "interpolation_tables.hpp"

#include <algorithm>
#include <cmath>

namespace rstpm {

LinearAxis LinearTable::view() const {
    return {outputs, sources, index.data(), fraction.data(), base.data(), relative.data(), permutable};
}

LinearTable interpolate(const std::vector<double>& positions, int sources, int lanes) {
    LinearTable table;
    table.outputs = static_cast<int>(positions.size());
    table.sources = sources;
    const int padded = round_up(table.outputs, lanes);
    for (int i = 0; i < padded; ++i) {
        const double position = positions[std::min(i, table.outputs - 1)];
        // The last source is reached as fraction 1 of the last pair.
        const int index = std::min(static_cast<int>(position), std::max(sources - 2, 0));
        table.index.push_back(index);
        table.fraction.push_back(static_cast<float>(position - index));
    }
    table.permutable = true;
    for (int first = 0; first < padded; first += lanes) {
        const int base = table.index[first];
        table.base.push_back(base);
        for (int i = first; i < first + lanes; ++i) {
            table.relative.push_back(table.index[i] - base);
            table.permutable = table.permutable && table.relative[i] + 1 < lanes;
        }
    }
    return table;
}

std::vector<double> find_knots(int outputs, const std::vector<int>& level_sizes) {
    const double last = outputs - 1;
    std::vector<double> candidates = {0.0, last};
    for (const int size : level_sizes) {
        for (int i = 0; i < size; ++i) {
            const double centre = (i + 0.5) * outputs / size - 0.5;
            if (centre > 0.0 && centre < last) candidates.push_back(centre);
        }
    }
    std::sort(candidates.begin(), candidates.end());

    const double rounding = 1e-9;  // two levels' centres that coincide may differ by this
    std::vector<double> distinct;
    for (const double knot : candidates)
        if (distinct.empty() || knot > distinct.back() + rounding) distinct.push_back(knot);

    std::vector<double> knots;
    for (std::size_t i = 0; i < distinct.size(); ++i) {
        const bool pixel_before = i > 0 && std::floor(distinct[i]) >= distinct[i - 1];
        const bool pixel_after = i + 1 < distinct.size() && std::floor(distinct[i + 1]) >= distinct[i];
        if (pixel_before || pixel_after || distinct.size() == 1) knots.push_back(distinct[i]);
    }

    if (knots.size() >= static_cast<std::size_t>(outputs)) {
        knots.resize(outputs);
        for (int i = 0; i < outputs; ++i) knots[i] = i;
    }
    return knots;
}

std::vector<double> knots_in_level(const std::vector<double>& knots, int level_size, int outputs) {
    std::vector<double> positions;
    for (const double knot : knots) {
        const double position = (knot + 0.5) * level_size / outputs - 0.5;
        positions.push_back(std::min(std::max(position, 0.0), level_size - 1.0));
    }
    return positions;
}

std::vector<double> pixels_in_knots(const std::vector<double>& knots, int outputs) {
    std::vector<double> positions;
    std::size_t k = 0;
    for (int pixel = 0; pixel < outputs; ++pixel) {
        while (k + 1 < knots.size() && knots[k + 1] <= pixel) ++k;
        const bool is_last = k + 1 == knots.size();
        positions.push_back(k + (is_last ? 0.0 : (pixel - knots[k]) / (knots[k + 1] - knots[k])));
    }
    return positions;
}

namespace {

// A sparse row under construction: weights over all columns, and the range that is in use.
class RowBuilder {
  public:
    explicit RowBuilder(int columns) : weight_(columns), low_(columns), high_(-1) {}
    void add(int column, double weight) {
        weight_[column] += weight;
        low_ = std::min(low_, column);
        high_ = std::max(high_, column);
    }
    void append_to(Banded* matrix) {
        matrix->start.push_back(low_);
        matrix->weight.emplace_back(weight_.begin() + low_, weight_.begin() + high_ + 1);
        std::fill(weight_.begin() + low_, weight_.begin() + high_ + 1, 0.0);
        low_ = static_cast<int>(weight_.size());
        high_ = -1;
    }

  private:
    std::vector<double> weight_;
    int low_, high_;
};

}  // namespace

Banded gaussian(int size, double sigma) {
    const int radius = static_cast<int>(std::ceil(3.0 * sigma));
    std::vector<double> taps;
    double sum = 0.0;
    for (int offset = -radius; offset <= radius; ++offset) {
        taps.push_back(std::exp(-0.5 * offset * offset / (sigma * sigma)));
        sum += taps.back();
    }
    Banded matrix;
    matrix.columns = size;
    RowBuilder row(size);
    for (int i = 0; i < size; ++i) {
        for (int offset = -radius; offset <= radius; ++offset)
            row.add(std::min(std::max(i + offset, 0), size - 1), taps[offset + radius] / sum);
        row.append_to(&matrix);
    }
    return matrix;
}

Banded multiply(const Banded& left, const LinearTable& right) {
    Banded product;
    product.columns = right.sources;
    RowBuilder row(right.sources);
    for (std::size_t i = 0; i < left.start.size(); ++i) {
        for (std::size_t k = 0; k < left.weight[i].size(); ++k) {
            const std::size_t middle = left.start[i] + k;
            const double fraction = right.fraction[middle];
            const int source = right.index[middle];
            row.add(source, left.weight[i][k] * (1.0 - fraction));
            if (source + 1 < right.sources) row.add(source + 1, left.weight[i][k] * fraction);
        }
        row.append_to(&product);
    }
    return product;
}

namespace {

// One band of equal width per group of `group` rows. weight(row in group, tap) is stored tap-major.
BandTable band_per_group(const Banded& matrix, int group) {
    const int outputs = static_cast<int>(matrix.start.size());
    const int groups = (outputs + group - 1) / group;
    BandTable table;
    table.outputs = outputs;
    std::vector<int> low(groups, matrix.columns), high(groups, 0);
    for (int i = 0; i < outputs; ++i) {
        low[i / group] = std::min(low[i / group], matrix.start[i]);
        high[i / group] =
            std::max(high[i / group], matrix.start[i] + static_cast<int>(matrix.weight[i].size()));
    }
    for (int g = 0; g < groups; ++g) table.taps = std::max(table.taps, high[g] - low[g]);
    table.weight.resize(static_cast<std::size_t>(groups) * table.taps * group);
    for (int g = 0; g < groups; ++g) {
        const int start = std::min(low[g], matrix.columns - table.taps);  // stays inside the source
        table.start.push_back(start);
        for (int lane = 0; lane < group; ++lane) {
            const int i = std::min(g * group + lane, outputs - 1);  // padding repeats the last output
            for (std::size_t k = 0; k < matrix.weight[i].size(); ++k) {
                const std::size_t tap = matrix.start[i] - start + k;
                table.weight[(static_cast<std::size_t>(g) * table.taps + tap) * group + lane] =
                    static_cast<float>(matrix.weight[i][k]);
            }
        }
    }
    return table;
}

}  // namespace

BandTable band_per_row(const Banded& matrix) { return band_per_group(matrix, 1); }

BandTable band_per_vector(const Banded& matrix, int lanes) { return band_per_group(matrix, lanes); }

}  // namespace rstpm
