"""Whether a training was long enough, by its own losses.

A loss falls for ever, and by the same share from one doubling of the epochs to the next; what one more epoch still
brings is what tells. Over the last fifth, an epoch lowered it by 5 % after 5 epochs, by 2 % after 15, and by 0.5 and
0.7 % after the 60 and 47 of full trainings, on the demo's parts and on magnetic tiles; image AUROC rose with it.
"""

from collections.abc import Sequence

FALLING = 0.01  # an epoch's share of the loss, from which on more of them are worth their time


def fall_per_epoch(losses: Sequence[tuple[float, float]]) -> float | None:
    """How much of the loss each epoch took away over the last fifth of them, as a share; None for a single epoch.

    `losses` are those of both pairs of each epoch. Means over that fifth, and over as many epochs before it.
    """
    both = [first + second for first, second in losses]
    some = max(1, round(len(both) / 5))
    if len(both) < 2 * some:
        return None
    last, before = (sum(part) / some for part in (both[-some:], both[-2 * some : -some]))
    return 1 - (last / before) ** (1 / some) if last > 0 and before > 0 else 0.0


def unfinished(losses: Sequence[tuple[float, float]]) -> str | None:
    """What to say of a training that is not done; None of one that is."""
    fall = fall_per_epoch(losses)
    if fall is None:
        return "one epoch says nothing of where the loss would end"
    return f"its loss still fell by {fall:.1%} an epoch" if fall > FALLING else None
