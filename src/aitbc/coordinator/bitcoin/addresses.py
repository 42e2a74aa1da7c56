"""Addresses to be paid at: made from an extended public key (BIP84, watch-only), or one that the operator named.

A private key is never needed, and is refused where one is given.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from embit import script
from embit.base import EmbitError
from embit.bip32 import HDKey
from embit.networks import NETWORKS

MAINNET, TESTNET, REGTEST = "mainnet", "testnet", "regtest"
CHAINS = (MAINNET, TESTNET, REGTEST)
"""What addresses tell apart. The public test networks (testnet3, testnet4, signet) share one form of address."""

GENESIS = {
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f": MAINNET,
    "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943": TESTNET,  # testnet3
    "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043": TESTNET,  # testnet4
    "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6": TESTNET,  # signet
    "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206": REGTEST,
}
"""The hash of a chain's first block says which chain it is."""

MAX_INDEX = 2**31 - 1
"""The last index that a public key can be derived for."""
_EMBIT = {MAINNET: NETWORKS["main"], TESTNET: NETWORKS["test"], REGTEST: NETWORKS["regtest"]}
_VERSIONS = {
    bytes.fromhex("0488b21e"): MAINNET,  # xpub
    bytes.fromhex("04b24746"): MAINNET,  # zpub
    bytes.fromhex("043587cf"): TESTNET,  # tpub
    bytes.fromhex("045f1cf6"): TESTNET,  # vpub
}


class AddressesInvalid(ValueError):
    """An extended key or an address that cannot be used; the text says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to pay: the address, the script that outputs to it bear, and where it came from."""

    address: str
    script: bytes
    index: int
    """Its index under the extended key; -1: it is the one that the operator named."""


class Receiving:
    """The receiving branch (m/0/index) of an account's extended public key, as BIP84 has it."""

    def __init__(self, xpub: str, chain: str = "") -> None:
        """`chain`: one of CHAINS, where the key's own prefix does not say enough. AddressesInvalid."""
        try:
            key = HDKey.from_string(xpub)
        except (EmbitError, ValueError, IndexError, KeyError) as error:
            raise AddressesInvalid("it is no extended public key (mistyped?)") from error
        if key.is_private:
            raise AddressesInvalid("it is a private key, which belongs on no server; give the public one")
        if key.version not in _VERSIONS:
            raise AddressesInvalid("its prefix is not xpub, zpub, tpub or vpub: BIP84 has no other")
        if key.depth != 3:
            raise AddressesInvalid(
                f"it is not an account's key (m/84'/0'/0'): its depth is {key.depth}, not 3"
            )
        own = _VERSIONS[key.version]
        self.chain = chain or own
        if (self.chain == MAINNET) != (own == MAINNET):
            raise AddressesInvalid(f"it is a key of {own}, and not of {self.chain}")
        self._branch: HDKey = key.derive([0])
        raw = key.chain_code + key.key.sec()
        self.key_id = hashlib.sha256(raw).hexdigest()[:16]
        """Names the key where indexes are kept; the same for its xpub and its zpub."""

    def place(self, index: int) -> Place:
        """The address at m/0/index."""
        if not 0 <= index <= MAX_INDEX:
            raise AddressesInvalid("the extended key has no address of such an index")
        found = script.p2wpkh(self._branch.derive([index]).key)
        return Place(found.address(_EMBIT[self.chain]), found.data, index)


def named_place(address: str, chain: str = "") -> tuple[Place, str]:
    """An operator's own address, and which of CHAINS it is of. AddressesInvalid."""
    try:
        data = script.address_to_scriptpubkey(address).data
    except (EmbitError, ValueError, IndexError, KeyError, TypeError) as error:
        raise AddressesInvalid("it is no Bitcoin address (mistyped?)") from error
    own = _chain_of(address)
    if (
        chain
        and chain != own
        and (own == MAINNET or chain == MAINNET or address.lower().startswith(("tb1", "bcrt1")))
    ):
        raise AddressesInvalid(f"it is an address of {own}, and not of {chain}")
    return Place(address, data, -1), chain or own


def address_of(data: bytes, chain: str) -> str:
    """What explorers call a script that has an address. AddressesInvalid."""
    try:
        return str(script.Script(data).address(_EMBIT[chain]))
    except (EmbitError, ValueError) as error:
        raise AddressesInvalid("the script has no address") from error


def _chain_of(address: str) -> str:
    """By the address's prefix; the old forms of regtest look like those of testnet."""
    if address.lower().startswith("bcrt1"):
        return REGTEST
    return MAINNET if address.lower().startswith("bc1") or address[:1] in ("1", "3") else TESTNET
