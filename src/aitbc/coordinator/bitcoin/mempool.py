"""What a node's mempool pays, each transaction asked for once."""

from collections.abc import Set

from aitbc.coordinator.bitcoin import raw
from aitbc.coordinator.bitcoin.raw import Output, Transaction

FEW = 8
"""Scripts that are looked for one by one."""


class Mempool:
    """Transactions of a mempool as they were last listed; of each only its outputs are kept, a few hundred bytes."""

    def __init__(self) -> None:
        self._kept: dict[str, Transaction] = {}
        self._found: dict[str, list[Output]] = {}
        self._asked: set[bytes] = set()

    def renew(self, txids: Set[str]) -> list[str]:
        """These are in it now, and no others. Returns those that are not known yet, to be given to `add`."""
        for txid in self._kept.keys() - txids:
            del self._kept[txid]
            self._found.pop(txid, None)
        return list(txids - self._kept.keys())

    def add(self, txid: str, transaction: Transaction) -> None:
        self._kept[txid] = transaction
        self._look(txid, self._asked)

    def outputs_to(self, scripts: Set[bytes]) -> list[Output]:
        """To any of the scripts. Only what was not asked before costs a look at all transactions."""
        new = scripts - self._asked
        if new:
            self._asked |= new
            for txid, transaction in self._kept.items():
                # To look for a script's bytes is ten times as quick as to read the outputs.
                if len(new) > FEW or any(script in transaction.outputs for script in new):
                    self._look(txid, new)
        return [output for found in self._found.values() for output in found if output.script in scripts]

    def _look(self, txid: str, scripts: Set[bytes]) -> None:
        found = raw.outputs_to(self._kept[txid], scripts)
        if found:
            self._found.setdefault(txid, []).extend(found)
