"""Looks at the Bitcoin chain for what was paid."""

from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.watching import Watcher

LOOP = Loop(
    name="bitcoin",
    does="looks for payments of top-ups in new blocks and the mempool, each `BITCOIN_INTERVAL_S`; credits them",
    every_s=lambda settings: settings.bitcoin_interval_s,
    open=Watcher,
    run_once=Watcher.run_once,
    close=Watcher.close,
    needs_steady_clock=True,
    while_log_refused=False,
)
