"""The server's side of NTLM version 2, as HTTP carries it: a challenge, and the check of what the client makes of it.

Written from MS-NLMP, apart from any client library, so that both sides cannot share one mistake. Not simulated: the message
integrity code (no time stamp is sent, so clients leave it out), channel bindings (taken as they come) and NTLM version 1.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

SIGNATURE = b"NTLMSSP\0"
_UNICODE, _TARGET, _NTLM, _ALWAYS_SIGN = 0x1, 0x4, 0x200, 0x8000
_TARGET_DOMAIN, _EXTENDED, _TARGET_INFO = 0x10000, 0x80000, 0x800000
_FLAGS = _UNICODE | _TARGET | _NTLM | _ALWAYS_SIGN | _TARGET_DOMAIN | _EXTENDED | _TARGET_INFO
_NB_COMPUTER, _NB_DOMAIN, _DNS_COMPUTER, _DNS_DOMAIN = 1, 2, 3, 4  # AV pair ids, MS-NLMP 2.2.2.1


@dataclass(frozen=True, slots=True)
class Authenticate:
    """What the client's third message says."""

    domain: str
    user: str
    response: bytes  # NtChallengeResponse

    def proves(self, password: str, challenge: bytes) -> bool:
        """Say whether the sender knows the password (MS-NLMP 3.3.2)."""
        if len(self.response) < 44:  # an answer of version 1, or none
            return False
        proof, blob = self.response[:16], self.response[16:]
        key = _hmac(md4(password.encode("utf-16-le")), (self.user.upper() + self.domain).encode("utf-16-le"))
        return hmac.compare_digest(_hmac(key, challenge + blob), proof)


def kind_of(message: bytes) -> int:
    """Return 1 for a negotiate message, 3 for an authenticate message, 0 for anything else."""
    if not message.startswith(SIGNATURE) or len(message) < 12:
        return 0
    return int(struct.unpack_from("<I", message, 8)[0])


def challenge_message(challenge: bytes, domain: str, computer: str) -> bytes:
    """Return the second message; `challenge` is 8 random bytes."""
    target = domain.upper().encode("utf-16-le")
    names = {_NB_DOMAIN: domain.upper(), _NB_COMPUTER: computer.upper()}
    names |= {_DNS_DOMAIN: f"{domain}.example".lower(), _DNS_COMPUTER: f"{computer}.{domain}.example".lower()}
    info = b"".join(struct.pack("<HH", kind, len(value) * 2) + value.encode("utf-16-le") for kind, value in names.items())
    info += struct.pack("<HH", 0, 0)
    start = 56
    head = SIGNATURE + struct.pack("<I", 2) + struct.pack("<HHI", len(target), len(target), start)
    head += struct.pack("<I", _FLAGS) + challenge + bytes(8)
    head += struct.pack("<HHI", len(info), len(info), start + len(target))
    return head + bytes([10, 0, 0x7C, 0x4F, 0, 0, 0, 15]) + target + info


def read_authenticate(message: bytes) -> Authenticate:
    """Raises: ValueError for what is no authenticate message."""
    try:
        return Authenticate(
            domain=_field(message, 28).decode("utf-16-le"),
            user=_field(message, 36).decode("utf-16-le"),
            response=_field(message, 20),
        )
    except struct.error as error:
        raise ValueError("too short") from error


def _field(message: bytes, at: int) -> bytes:
    length, _, offset = struct.unpack_from("<HHI", message, at)
    if offset + length > len(message):
        raise ValueError("a field lies outside the message")
    return message[offset : offset + length]


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "md5").digest()


def md4(data: bytes) -> bytes:
    """RFC 1320; OpenSSL 3 no longer offers it."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    for start in range(0, len(padded), 64):
        words = struct.unpack_from("<16I", padded, start)
        state = [(old + new) & 0xFFFFFFFF for old, new in zip(state, _rounds(list(state), words), strict=True)]
    return struct.pack("<4I", *state)


_ORDER = (
    tuple(range(16)),
    (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
    (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
)
_SHIFTS = ((3, 7, 11, 19), (3, 5, 9, 13), (3, 9, 11, 15))
_ADDED = (0, 0x5A827999, 0x6ED9EBA1)


def _rounds(state: list[int], words: tuple[int, ...]) -> list[int]:
    a, b, c, d = state
    for number in range(3):
        for step, word in enumerate(_ORDER[number]):
            if number == 0:
                mixed = (b & c) | (~b & d)
            elif number == 1:
                mixed = (b & c) | (b & d) | (c & d)
            else:
                mixed = b ^ c ^ d
            total = (a + mixed + words[word] + _ADDED[number]) & 0xFFFFFFFF
            shift = _SHIFTS[number][step % 4]
            a, b, c, d = d, ((total << shift) | (total >> (32 - shift))) & 0xFFFFFFFF, b, c
    return [a, b, c, d]
