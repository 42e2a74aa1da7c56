"""Making a miner known to its coordinator, at the start and whenever the coordinator has forgotten it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aitbc.miner.advertise import registration_body
from aitbc.miner.answers import CoordinatorUnreachable, Refused, Registration
from aitbc.miner.client import CoordinatorClient
from aitbc.miner.engines.base import ModelInfo
from aitbc.miner.gpu import Gpu
from aitbc.miner.link import Link
from aitbc.miner.settings import MinerSettings
from aitbc.sdk.networks import NetworkDoubt, settle

IN_USE = "MINER_ID_IN_USE"
IN_USE_RETRY_S = 3.0
IN_USE_MARGIN_S = 10.0
NETWORK_DOUBTED = "NETWORK_DOUBTED"
CONFLICT = 409


class Enrolment:
    """Registers one miner, one registration at a time. `current` is what the coordinator last answered."""

    def __init__(
        self,
        settings: MinerSettings,
        client: CoordinatorClient,
        link: Link,
        *,
        miner_id: str,
        public_bytes: bytes,
        gpus: list[Gpu],
        on_registered: Callable[[Registration], None],
        on_in_use: Callable[[Refused], None] = lambda refusal: None,
    ) -> None:
        self.current = Registration(miner_id, "", "", 15.0, 60.0)
        self.models: list[ModelInfo] = []
        self._settings = settings
        self._client = client
        self._link = link
        self._miner_id = miner_id
        self._public_bytes = public_bytes
        self._gpus = gpus
        self._on_registered = on_registered
        self._on_in_use = on_in_use
        self._registering = asyncio.Lock()

    async def register_patiently(self) -> None:
        """Register with `models`, however long the coordinator is away. Raises Refused or KeyRefused where it
        will not have us.

        One that is alive elsewhere may be ourselves before a crash, in a container that is no more: it lapses
        soon, and until then we ask again.
        """
        backoff = self._link.new_backoff()
        give_up_s: float | None = None
        while True:
            try:
                await self._register()
                return
            except CoordinatorUnreachable as error:
                await self._link.failed(error, backoff)
            except Refused as refusal:
                if refusal.code == IN_USE and self._client.session_id is None:
                    now_s = time.monotonic()
                    lapses_s = refusal.number("lapses_in_s", 0.0)
                    give_up_s = now_s + lapses_s + IN_USE_MARGIN_S if give_up_s is None else give_up_s
                    if now_s < give_up_s:
                        self._on_in_use(refusal)
                        await asyncio.sleep(IN_USE_RETRY_S)
                        continue
                if refusal.is_final:
                    raise
                await self._link.failed(refusal, backoff)

    async def _register(self) -> None:
        async with self._registering:
            body = registration_body(
                self._settings,
                self._miner_id,
                self.models,
                self._gpus,
                self._public_bytes,
                takeover=self._settings.takeover and self._client.session_id is None,
            )
            registration = await self._client.register(body)
            await asyncio.to_thread(self._check_network, registration.network_id)
            self.current = registration
        self._link.succeeded()
        self._on_registered(self.current)

    def _check_network(self, told: str) -> None:
        """What is signed here is good on the network that the coordinator names. Raises Refused where that is not the
        one that it was before."""
        wanted, url = self._settings.network_id, self._client.url
        if not told:
            what = f"{url} does not say which network it is, and nothing is signed without: upgrade the coordinator"
            raise Refused(CONFLICT, NETWORK_DOUBTED, what)
        try:
            settle(self._settings.home / "miner", url, told, wanted, one_address=False)
        except NetworkDoubt as error:
            what = f"{error}; if that is right and you know why: --network-id {told}"
            raise Refused(CONFLICT, NETWORK_DOUBTED, what) from error
