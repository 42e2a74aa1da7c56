"""Settings that are lists: what stands between their commas."""

from aitbc.core.log.note import COSIGNATURE_V1, Verifier


def split_witnesses(text: str) -> list[tuple[Verifier, str]]:
    """WITNESSES as (verifier key, URL) pairs, each name once: a witness counts once. ValueError."""
    found: list[tuple[Verifier, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, url = part.partition("@")
        if not separator or not url.startswith(("http://", "https://")):
            raise ValueError("each witness is VKEY@URL")
        verifier = Verifier.parse(key)
        if verifier.kind != COSIGNATURE_V1:
            raise ValueError(f"{verifier.name}: not a witness's key (aitbc witness run prints the right one)")
        if any(verifier.name == other.name for other, _url in found):
            raise ValueError(f"{verifier.name}: named twice")
        found.append((verifier, url.rstrip("/")))
    return found


def split_api_keys(text: str) -> list[tuple[str, str]]:
    """API_KEYS as (role, key) pairs; role is "" for a bare key. Blank entries are skipped."""
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        entry = part.strip()
        if not entry:
            continue
        role, colon, key = entry.partition(":")
        if colon and role in ("client", "miner", "admin") and key:
            pairs.append((role, key))
        else:
            pairs.append(("", entry))
    return pairs
