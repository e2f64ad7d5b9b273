"""The sizes of a picture that are possible."""

MAX_PIXELS = 1 << 28  # 268 megapixels: above any inspection camera, below what exhausts a small box's memory
MAX_SIDE = 1 << 23  # as csrc/rstpm_edge.h has it: sums over a row or column stay exact


def is_possible_size(width: int, height: int) -> bool:
    return min(width, height) >= 1 and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS


def impossible_size(width: int, height: int) -> str:
    if max(width, height) > MAX_SIDE and width * height <= MAX_PIXELS:
        return f"measures {width}×{height} pixels; at most {MAX_SIDE:,} in a row or column are possible"
    return f"measures {width}×{height} pixels; at least one and at most {MAX_PIXELS:,} in all are possible"
