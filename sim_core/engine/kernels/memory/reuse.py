"""How far back what is reused lies: what must be kept, between two uses, to find it again."""

from __future__ import annotations

import numpy as np

from sim_core.engine.compiling import Entry


@Entry
def depths_of_uses(starts, items, sizes, depths, last, held, tree):
    """Fill in, for each use of an item, what all take that were used more recently; -1 at its first use.

    Uses come in groups, of which each is looked up as a whole before it counts, and then counts from its last
    use to its first, so that the first is the most recent one. A sum over all that is more recent is a sum
    over a tree of the uses in order [1]_, so that a use costs the logarithm of their number.

    Parameters
    ----------
    starts : ndarray of int64, shape (groups + 1,)
    items, sizes : ndarray of int64, shape (uses,)
        Which item is used, and what it takes from then on.
    depths : ndarray of int64, shape (uses,)
        What is filled in.
    last, held : ndarray of int64, shape (items,)
        When each was used last, first -1, and what it takes since then, first 0.
    tree : ndarray of int64, shape (uses + 1,)
        Zeros.

    References
    ----------
    .. [1] Bennett and Kruskal, "LRU stack processing", IBM Journal of Research and Development 19, 1975.
    """
    total = np.int64(0)
    for group in range(starts.size - 1):
        for use in range(starts[group], starts[group + 1]):
            before = last[items[use]]
            depths[use] = -1 if before < 0 else total
            place = before + 1
            while place > 0:
                depths[use] -= tree[place]
                place &= place - 1
        for back in range(starts[group + 1] - starts[group]):
            use = starts[group + 1] - 1 - back
            item, now = items[use], starts[group] + back
            total += sizes[use] - held[item]
            place = last[item] + 1
            while 0 < place < tree.size:
                tree[place] -= held[item]
                place += place & -place
            place = now + 1
            while place < tree.size:
                tree[place] += sizes[use]
                place += place & -place
            last[item], held[item] = now, sizes[use]
