"""Forms of ids and references: what was written so far stays as it is, and what fits none is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]

import pytest

from aitbc.coordinator.api.schemas.queries import ID_CHARS
from aitbc.core import transfer_ids
from aitbc.core.ids import is_id, new_id
from aitbc.core.transfer_ids import (
    ALLOCATED,
    BITCOIN,
    BOOKED,
    DEPOSIT,
    GRANT,
    GRANTED,
    IDS,
    JOB,
    MAX_ID_CHARS,
    MINTED,
    PROPOSAL,
    REASON,
    REFERENCES,
    SIGNED,
    SIGNED_FEE,
    TIMED,
    TOPUP,
    IdForm,
    ReferenceForm,
    id_form,
    new_transfer_id,
    reference_form,
    stored_id,
)
from tests.support.transfers import BOOKING, COIN, booking_of, declare, outpoint_of

UUID = "019b7c1e-5a46-7000-8000-00000000000a"
HASH = "ab" * 32
KINDS = ("mint", "transfer", "hold", "post", "fee", "void")

# The texts as they stand in logs. They are signed, so a change here breaks every log that has them.
WRITTEN_IDS = (
    (TIMED, UUID, UUID, KINDS),
    (GRANT, "client-0123abcd", "grant:client-0123abcd", ("mint",)),
    (GRANT, "0x" + "1f" * 20, "grant:0x" + "1f" * 20, ("mint",)),
    (MINTED, "2026:A.b_c-1", "minted:2026:A.b_c-1", ("mint",)),
    (BITCOIN, f"{HASH}:0", f"btc:{HASH}:0", ("mint", "transfer")),
    (BITCOIN, f"{HASH}:4294967295:13", f"btc:{HASH}:4294967295:13", ("mint", "transfer")),
    (ALLOCATED, UUID, f"allocated:{UUID}", ("transfer",)),
)
WRITTEN_REFERENCES = (
    (JOB, UUID, UUID, ("hold", "post", "fee", "void")),
    (DEPOSIT, "Rig_1.a", "deposit of miner Rig_1.a", ("hold", "void")),
    (BOOKED, UUID, f"booking {UUID}", ("hold", "post", "fee", "void")),
    (PROPOSAL, UUID, f"proposal {UUID}", ("transfer", "hold", "post", "void")),
    (SIGNED, HASH, HASH, ("transfer",)),
    (SIGNED_FEE, HASH, f"fee:{HASH}", ("transfer",)),
    (TOPUP, UUID, f"topup:{UUID}", ("mint", "transfer")),
    (REASON, "devnet grant", "devnet grant", ("mint",)),
    (REASON, "Preis für „Ü“ — 1", "Preis für „Ü“ — 1", ("mint",)),
)


@pytest.mark.parametrize(("form", "rest", "text", "kinds"), WRITTEN_IDS)
def test_ids_are_written_as_ever(form: IdForm, rest: str, text: str, kinds: tuple[str, ...]) -> None:
    assert form.of(rest) == text == stored_id(text)
    assert {kind for kind in KINDS if id_form(kind, text) is form} == set(kinds)
    assert {kind for kind in KINDS if id_form(kind, text) is not None} == set(kinds)


@pytest.mark.parametrize(("form", "rest", "text", "kinds"), WRITTEN_REFERENCES)
def test_references_are_written_as_ever(
    form: ReferenceForm, rest: str, text: str, kinds: tuple[str, ...]
) -> None:
    assert form.of(rest) == text
    assert {kind for kind in kinds if reference_form(kind, text) is form} == set(kinds)
    assert reference_form("gift", text) is None


def test_every_form_is_among_those_that_were_written() -> None:
    assert {form for form, *_ in WRITTEN_IDS} == set(IDS.values())
    assert {form for form, *_ in WRITTEN_REFERENCES} == set(REFERENCES.values())
    declared = {value for value in vars(transfer_ids).values() if isinstance(value, IdForm | ReferenceForm)}
    assert declared == {*IDS.values(), *REFERENCES.values()}, "declared, and not among what the audit knows"
    assert GRANTED == "devnet grant"


@pytest.mark.parametrize(
    ("form", "rest"),
    [
        (TIMED, ""),
        (TIMED, UUID.upper()),
        (TIMED, UUID + "\n"),
        (TIMED, UUID.replace("-7", "-4", 1)),
        (GRANT, ""),
        (GRANT, "Alice"),
        (GRANT, "a" * 65),
        (GRANT, "system:mint"),
        (MINTED, ""),
        (MINTED, "two words"),
        (MINTED, "é"),
        (MINTED, "x" * 65),
        (JOB, "job-1"),
        (DEPOSIT, ""),
        (DEPOSIT, "m" * 65),
        (DEPOSIT, "two words"),
        (BOOKED, "booking-1"),
        (SIGNED, HASH.upper()),
        (SIGNED, HASH[:-1]),
        (SIGNED_FEE, "fee:" + HASH),
        (REASON, ""),
        (REASON, "r" * 201),
        (REASON, "two\nlines"),
        (REASON, "\x9b31m"),
    ],
)
def test_what_does_not_fit_is_no_id_or_reference(form: IdForm | ReferenceForm, rest: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        form.of(rest)
    assert str(refused.value) == form.says
    assert not form.fits(form.prefix + rest)


@pytest.mark.parametrize(
    "text", ["", "prize:1", "grant", "grant:", "booking-1", "Z", "btc:1", " " + UUID, "minted:\0"]
)
def test_a_free_text_is_no_id(text: str) -> None:
    assert all(id_form(kind, text) is None for kind in KINDS)
    with pytest.raises(ValueError, match="not the id of a transfer"):
        stored_id(text)


def test_free_text_is_a_reference_of_what_is_made_alone() -> None:
    for kind in ("transfer", "hold", "post", "fee", "void"):
        assert reference_form(kind, "rent") is None
        assert reference_form(kind, "") is None
    assert reference_form("mint", "rent") is REASON
    assert reference_form("mint", "") is None
    assert reference_form("post", "deposit of miner m1") is None, "a deposit is given back, and pays nobody"


def test_named_ids_have_a_prefix_of_their_own_and_a_bound() -> None:
    """By which the next page is asked for, so that no longer one would be taken."""
    assert ID_CHARS >= MAX_ID_CHARS
    named = [form for form in (*IDS.values(), COIN, BOOKING) if form.prefix]
    assert len({form.prefix for form in named}) == len(named)
    for form in named:
        assert form.prefix.endswith(":") and form.prefix[:-1].isalpha() and form.prefix.islower()
        assert len(form.prefix) + _parser.parse(form.rest.pattern).getwidth()[1] <= MAX_ID_CHARS


def test_a_new_id_is_one_of_its_time() -> None:
    made = new_transfer_id(1_767_323_045_446)
    assert is_id(made) and stored_id(made) == made
    assert id_form("hold", new_id()) is TIMED


def test_a_kind_of_id_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    outpoint, booking = outpoint_of("a", 1), booking_of("b")
    assert id_form("mint", outpoint) is None is id_form("transfer", booking)
    declare(monkeypatch)
    assert id_form("mint", outpoint) is COIN
    assert id_form("hold", outpoint) is None, "of another kind of transfer"
    assert id_form("transfer", booking) is BOOKING
    assert (stored_id(outpoint), stored_id(booking)) == (outpoint, booking)


def listed(member: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """The rows of the format's page: prefix, what is behind it, and of which transfers."""
    text = (Path(__file__).parents[2] / "docs/formats/block.md").read_text()
    table = text.partition(f"| `{member}` | behind it | of | |\n")[2].partition("\n\n")[0]
    rows = []
    for line in table.splitlines()[1:]:
        prefix, rest, kinds = (cell.strip() for cell in line.split("|")[1:4])
        named = "" if prefix == "(no prefix)" else prefix[1:-1]
        rows.append((named, rest[1:-1], tuple(kinds.replace("`", "").split(", "))))
    return rows


@pytest.mark.parametrize(("member", "forms"), [("id", IDS), ("ref", REFERENCES)])
def test_the_format_lists_every_form(member: str, forms: Mapping[str, IdForm | ReferenceForm]) -> None:
    assert listed(member) == [
        (form.prefix, form.rest.pattern, tuple(kind for kind in KINDS if kind in form.kinds))
        for form in forms.values()
    ]
