"""A uvicorn server whose connections are within limits."""

from __future__ import annotations

import uvicorn

from aitbc.connections.limits import ConnectionLimits

SWEEP_TICKS = 10  # of uvicorn, each 0.1 s


class LimitedServer(uvicorn.Server):
    """Looks at all connections once a second; `config` takes the protocol of the same limits (`protocol_within`)."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self._limits.sweep()
        return await super().on_tick(counter)
