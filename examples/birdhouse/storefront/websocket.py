"""WebSocket, the server's side, as far as an echo needs it (RFC 6455, messages in one frame)."""

import base64
import hashlib
import struct

LARGEST = 1024 * 1024
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GOING_AWAY, UNSUPPORTED, TOO_BIG = 1001, 1003, 1009


def accept(key):
    """What a server says to show that it has understood."""
    magic = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()


def frame(kind, data):
    """A whole message in one frame."""
    if len(data) < 126:
        return struct.pack("!BB", 0x80 | kind, len(data)) + data
    if len(data) < 65536:
        return struct.pack("!BBH", 0x80 | kind, 126, len(data)) + data
    return struct.pack("!BBQ", 0x80 | kind, 127, len(data)) + data


def read(stream):
    """Kind and data of the next frame; CLOSE with a code if there is none, or none we can read."""
    head = stream.read(2)
    if len(head) < 2:
        return CLOSE, struct.pack("!H", GOING_AWAY)
    whole, kind, size = head[0] & 0x80, head[0] & 0x0F, head[1] & 0x7F
    if size >= 126:
        size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
    if size > LARGEST:
        return CLOSE, struct.pack("!H", TOO_BIG)
    if not whole or kind not in (TEXT, BINARY, CLOSE, PING, PONG):
        return CLOSE, struct.pack("!H", UNSUPPORTED)
    mask = stream.read(4)
    data = stream.read(size)
    return kind, bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
