"""RFC 6962, section 2.1, written down as it stands there: recursive, slow, nothing in common with ours."""

from __future__ import annotations

import hashlib
from functools import cache


class Tree:
    """MTH, PATH and PROOF over a list of leaves' bytes."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.mth = cache(self._mth)

    @staticmethod
    def _k(n: int) -> int:
        """The largest power of two smaller than n."""
        k = 1
        while k * 2 < n:
            k *= 2
        return k

    def _mth(self, low: int, high: int) -> bytes:
        if low == high:
            return hashlib.sha256().digest()
        if high - low == 1:
            return hashlib.sha256(b"\x00" + self.leaves[low]).digest()
        k = self._k(high - low)
        return hashlib.sha256(b"\x01" + self.mth(low, low + k) + self.mth(low + k, high)).digest()

    def root(self, size: int) -> bytes:
        return self.mth(0, size)

    def path(self, m: int, n: int) -> list[bytes]:
        """PATH(m, D[n])."""
        return self._path(m, 0, n)

    def _path(self, m: int, low: int, high: int) -> list[bytes]:
        n = high - low
        if n == 1:
            return []
        k = self._k(n)
        if m < k:
            return [*self._path(m, low, low + k), self.mth(low + k, high)]
        return [*self._path(m - k, low + k, high), self.mth(low, low + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        """PROOF(m, D[n])."""
        return self._subproof(m, 0, n, True)

    def _subproof(self, m: int, low: int, high: int, whole: bool) -> list[bytes]:
        n = high - low
        if m == n:
            return [] if whole else [self.mth(low, high)]
        k = self._k(n)
        if m <= k:
            return [*self._subproof(m, low, low + k, whole), self.mth(low + k, high)]
        return [*self._subproof(m - k, low + k, high, False), self.mth(low, low + k)]
