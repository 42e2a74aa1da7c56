"""Brings new blocks to the witnesses."""

from aitbc.coordinator.process.cosigning import Cosigner
from aitbc.coordinator.process.loops import Loop

LOOP = Loop(
    name="cosign",
    does="brings the newest block to the witnesses that have not cosigned it, each `BLOCK_INTERVAL_S`",
    every_s=lambda settings: settings.block_interval_s,
    open=Cosigner,
    run_once=Cosigner.run_once,
    close=Cosigner.close,
    while_log_refused=False,
)
