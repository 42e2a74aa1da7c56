"""The source that the settings name."""

from pathlib import Path

from aitbc.coordinator.bitcoin.source import Source
from aitbc.coordinator.config import Settings


def open_source(settings: Settings) -> Source | None:
    """What watches the chain; None where no source is set. Opens no connection yet."""
    if settings.bitcoin_rpc_url:
        from aitbc.coordinator.bitcoin.bitcoind import Bitcoind

        cookie = settings.bitcoin_rpc_cookie_file
        cookie_file = Path(cookie).expanduser() if cookie else None
        return Bitcoind(settings.bitcoin_rpc_url, settings.bitcoin_timeout_s, cookie_file)
    if settings.bitcoin_esplora_url:
        from aitbc.coordinator.bitcoin.esplora import Esplora

        return Esplora(settings.bitcoin_esplora_url, settings.bitcoin_timeout_s)
    return None
