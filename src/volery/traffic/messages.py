"""Protobuf messages the way Envoy wants them: durations, packed extensions. Pure."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message


def seconds(value: float) -> Duration:
    """A protobuf duration."""
    whole, nanos = divmod(round(value * 1e9), 10**9)
    return Duration(seconds=whole, nanos=nanos)


def pack(message: Message) -> AnyMessage:
    """A message wrapped for an extension point, byte for byte the same every time."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed
