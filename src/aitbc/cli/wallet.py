"""`aitbc wallet …`: a wallet of one's own, on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aitbc.cli.failures import CommandError, usage_error
from aitbc.cli.output import ait, note, pairs, print_json, say
from aitbc.cli.profile import JsonOption, Profile, UrlOption, home, resolve, save_profile
from aitbc.cli.wallet_network import NetworkOption, known_network, network_for

if TYPE_CHECKING:
    from aitbc.core.signing import PrivateKey
    from aitbc.wallet.client import Login, WalletClient
    from aitbc.wallet.keystore import StoredWallet

wallet_app = typer.Typer(
    no_args_is_help=True, help="Your own wallet: new, address, balance, send, sign, login; API keys: key."
)

WALLET_NAME = "wallet.json"
PASSPHRASE = "AITBC_WALLET_PASSPHRASE"  # noqa: S105 - a variable's name
DEFAULT_CHAIN = "ait-devnet"
MAX_TEXT_BYTES = 1 << 20

WalletOption = Annotated[
    Path | None,
    typer.Option(
        "--wallet",
        metavar="FILE",
        help="The wallet's file; else wallet.json in AITBC_HOME.",
        envvar="AITBC_WALLET",
    ),
]
DomainOption = Annotated[
    str | None,
    typer.Option(metavar="HOST[:PORT]", help="The coordinator's name, where it is not that of --url."),
]
ChainOption = Annotated[str, typer.Option("--chain-id", metavar="NAME", help="The network.")]


@wallet_app.command()
def new(wallet: WalletOption = None, as_json: JsonOption = False) -> None:
    """Make a wallet: a key in a file, encrypted with a passphrase. Keep a copy of both; nobody can restore it."""
    from aitbc.wallet import keystore

    path = _path(wallet)
    if path.exists():
        raise CommandError(
            "WALLET", f"{path} exists: a wallet is never overwritten", "Name another with --wallet."
        )
    with _wallet_errors():
        stored = keystore.create(path, _new_passphrase())
    if as_json:
        print_json({"address": stored.address, "public_key": stored.public_key, "file": str(path)})
        return
    say(stored.address)
    note(f"in {path}; a lost file or passphrase cannot be restored by anybody")


@wallet_app.command()
def address(wallet: WalletOption = None, as_json: JsonOption = False) -> None:
    """Print the wallet's address: where others pay to."""
    stored = load_wallet(wallet)
    if as_json:
        print_json({"address": stored.address, "public_key": stored.public_key, "file": str(stored.path)})
    else:
        say(stored.address)


@wallet_app.command()
def balance(
    of: Annotated[
        str | None, typer.Argument(metavar="ADDRESS", help="Another address.", show_default=False)
    ] = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show what the wallet, or another address, has. No passphrase is needed."""
    wanted = load_wallet(wallet).address if of is None else of
    with connect_wallet(url) as client:
        funds = client.funds(wanted)
    if as_json:
        print_json(
            {
                "address": funds.address,
                "chain_id": funds.chain_id,
                "network_id": funds.network_id,
                "balance": funds.balance,
                "nonce": funds.nonce,
            }
        )
        return
    pairs(
        [
            ("address", funds.address),
            ("network", funds.chain_id),
            ("network id", funds.network_id),
            ("balance, AIT", ait(funds.balance)),
            ("transfers sent", funds.nonce),
        ]
    )


@wallet_app.command()
def send(
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="Who is paid.", show_default=False)],
    amount: Annotated[str, typer.Argument(metavar="AIT", help="How much.", show_default=False)],
    fee: Annotated[
        str | None,
        typer.Option(metavar="AIT", help="What the network gets on top; left out, the least that it takes."),
    ] = None,
    nonce: Annotated[
        int | None,
        typer.Option(min=1, max=2**53 - 1, help="The transfer's number; left out, the coordinator is asked."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only print the signed transfer; needs --nonce.")
    ] = False,
    chain_id: ChainOption = DEFAULT_CHAIN,
    network_id: NetworkOption = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Pay another wallet: sign a transfer and send it. A transfer that was applied cannot be called back."""
    from aitbc.core.wallet.transaction import USUAL_FEE_UNITS, Transaction

    recipient, amount_units = _recipient(to), _units("AIT", amount)
    given_units = None if fee is None else _units("--fee", fee)
    if amount_units == 0:
        raise usage_error("an amount of zero")
    if offline and nonce is None:
        raise usage_error("--offline needs --nonce", "See `aitbc wallet balance`: transfers sent, plus one.")
    stored = load_wallet(wallet)
    if recipient == stored.address:
        raise usage_error("that is this wallet's own address")

    def sign(network: str, number: int, least_units: int) -> tuple[dict[str, object], str]:
        key = _unlock(stored)
        made = Transaction.make(
            key,
            chain_id=chain_id,
            network_id=network,
            recipient=recipient,
            amount_units=amount_units,
            fee_units=least_units if given_units is None else given_units,
            nonce=number,
        )
        return made.signed(key), made.hash

    if offline and nonce is not None:
        print_json(sign(known_network(url, network_id), nonce, USUAL_FEE_UNITS)[0])
        return
    with connect_wallet(url) as client:
        funds = client.funds(stored.address, chain_id if nonce is None else None)
        number = funds.nonce + 1 if nonce is None else nonce
        network = network_for(client.url, funds.network_id, network_id)
        document, transaction_hash = sign(network, number, funds.min_fee_units)
        client.send_transaction(document, transaction_hash)
    if as_json:
        print_json({"hash": transaction_hash, "nonce": number, "transaction": document})
    else:
        say(transaction_hash)
        note(f"{amount} AIT to {recipient}")


@wallet_app.command()
def sign(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="What to sign; - or nothing: stdin, but for a last line feed.",
            show_default=False,
        ),
    ] = None,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a text, such as a login text of a coordinator's. A transfer is not signed this way: use send."""
    from aitbc.core.signing import encode_b64

    message = _text(text)
    if "aitbc/transaction/" in message:
        raise CommandError("WALLET", "this looks like a transfer", "Use `aitbc wallet send --offline`.")
    stored = load_wallet(wallet)
    signature = encode_b64(_unlock(stored).sign(message.encode()))
    if as_json:
        print_json({"address": stored.address, "public_key": stored.public_key, "signature": signature})
    else:
        say(signature)


@wallet_app.command()
def login(
    domain: DomainOption = None,
    save_key: Annotated[
        bool,
        typer.Option("--save-key", help="Make an API key of the wallet's account; save it as `aitbc login`."),
    ] = False,
    wallet: WalletOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Log in with the wallet: print a session's token, good for a day; or save an API key and log out again."""
    stored = load_wallet(wallet)
    with connect_wallet(url) as client:
        session = log_in(client, stored, domain)
        if save_key:
            _save_key(client, session, stored.address, as_json)
            return
    if as_json:
        print_json(
            {
                "address": stored.address,
                "session_token": session.token,
                "session_id": session.session_id,
                "expires_at": session.expires_at,
            }
        )
    else:
        say(session.token)
        note(f"a session of {stored.address}, until {session.expires_at}; send it as X-Session-Token")


def _save_key(client: WalletClient, session: Login, address: str, as_json: bool) -> None:
    key = client.make_key(session.token, "aitbc wallet login")
    path = save_profile(Profile(client.url, key))
    client.log_out(session.token)
    if as_json:
        print_json({"address": address, "url": client.url, "profile": str(path)})
    else:
        say(f"{client.url} as {address}; saved in {path}")


def log_in(client: WalletClient, stored: StoredWallet, domain: str | None) -> Login:
    """A session of the wallet. Raises CommandError for a text that should not be signed."""
    message = client.challenge(stored.address)
    _check_message(message, stored.address, domain or _host(client.url))
    return client.log_in(stored.address, message, _sign_text(stored, message), stored.public_key)


def _check_message(message: str, address: str, domain: str) -> None:
    """A text is signed only if it is a login text, of this coordinator, for this wallet: whoever is asked to
    log in could pass on a text of somebody else's."""
    from aitbc.core.wallet.login_message import LoginMessageInvalid, parse_login_message

    try:
        read = parse_login_message(message)
    except LoginMessageInvalid as error:
        raise CommandError("LOGIN_TEXT", f"the coordinator's text is no login text: {error}") from error
    if read.address != address:
        raise CommandError("LOGIN_TEXT", f"the coordinator's text is for another wallet: {read.address}")
    if read.domain.lower() != domain.lower():
        raise CommandError(
            "LOGIN_TEXT",
            f"the coordinator calls itself {read.domain}, not {domain}",
            f"If you trust that name: --domain {read.domain}. Operators set PUBLIC_URL.",
        )


def _sign_text(stored: StoredWallet, message: str) -> str:
    from aitbc.core.signing import encode_b64

    return encode_b64(_unlock(stored).sign(message.encode()))


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).netloc


def _path(given: Path | None) -> Path:
    return (home() / WALLET_NAME) if given is None else given.expanduser()


def load_wallet(given: Path | None) -> StoredWallet:
    """The wallet of this file, or the one in the home folder. Raises CommandError."""
    from aitbc.wallet import keystore

    path = _path(given)
    try:
        with _wallet_errors():
            return keystore.load(path)
    except FileNotFoundError as error:
        raise CommandError("WALLET", f"there is no wallet at {path}", "Make one: aitbc wallet new") from error


def _unlock(stored: StoredWallet) -> PrivateKey:
    with _wallet_errors():
        return stored.unlock(_passphrase("Passphrase: "))


@contextmanager
def _wallet_errors() -> Iterator[None]:
    from aitbc.wallet.keystore import WalletError, WrongPassphrase

    try:
        yield
    except WrongPassphrase as error:
        raise CommandError("WRONG_PASSPHRASE", str(error)) from error
    except WalletError as error:
        raise CommandError("WALLET", str(error)) from error


def _passphrase(prompt: str) -> str:
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise usage_error("no passphrase", f"Set {PASSPHRASE}, or run this in a terminal.")
    import getpass

    return getpass.getpass(prompt)


def _new_passphrase() -> str:
    chosen = _passphrase("New passphrase: ")
    if os.environ.get(PASSPHRASE) is None and _passphrase("The same again: ") != chosen:
        raise usage_error("the two passphrases differ")
    return chosen


def _recipient(text: str) -> str:
    from aitbc.core.wallet.address import AddressInvalid, canonical_address

    try:
        return canonical_address(text)
    except AddressInvalid as error:
        raise usage_error(f"{text}: {error}") from error


def _units(name: str, text: str) -> int:
    from aitbc.core.money import parse_ait

    try:
        return parse_ait(text)
    except ValueError as error:
        raise usage_error(f"{name} {text}: {error}") from error


def _text(given: str | None) -> str:
    if given is not None and given != "-":
        return given
    data = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise usage_error("a text has at most 1 MiB")
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise usage_error("the text is not UTF-8") from error


@contextmanager
def connect_wallet(url: str | None) -> Iterator[WalletClient]:
    """A client that shows no API key, whatever the environment has."""
    from aitbc.wallet.client import WalletClient

    try:
        client = WalletClient(resolve(url, None).url)
    except ValueError as error:
        raise usage_error(str(error)) from error
    with client:
        yield client
