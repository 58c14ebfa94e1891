"""One worker of a Nuclio Python function, as the processor starts it.

Stands for ``_nuclio_wrapper.py`` of nuclio 1.14, which lies in Nuclio's images and in no package. Same arguments,
same sockets, same lines, the real Context, Event, Response, Logger and encoder of nuclio-sdk; without its signals and
its asynchronous handlers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

import msgpack
import nuclio_sdk
import nuclio_sdk.event
import nuclio_sdk.json_encoder
import nuclio_sdk.logger

_MAX_MESSAGE = 1 << 30  # bytes; as the wrapper's unpacker


class _LogLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"l{nuclio_sdk.logger.JSONFormatter().format(record)}"


def main() -> None:
    arguments = _arguments()
    logger = nuclio_sdk.Logger(logging.DEBUG)
    module_name, _, name = arguments.handler.partition(":")
    handler = getattr(importlib.import_module(module_name), name)
    events, control = _connected(arguments.event_socket_path), _connected(arguments.control_socket_path)
    out = events.makefile("w", encoding="utf-8")
    logger.set_handler("default", out, _LogLines())
    trigger = nuclio_sdk.TriggerInfo(arguments.trigger_kind, arguments.trigger_name)
    platform = nuclio_sdk.Platform(arguments.platform_kind, namespace=arguments.namespace)
    context = nuclio_sdk.Context(logger, platform, arguments.worker_id, trigger)

    # Where the handler was defined, not where it is named: a re-exported handler loses its init_context.
    init_context = getattr(sys.modules[handler.__module__], "init_context", None)
    if init_context is not None:
        init_context(context)
    _write(out, "s")
    ready = {"kind": "wrapperInitialized", "attributes": {"ready": "true"}}
    _write(control.makefile("w", encoding="utf-8"), json.dumps(ready))

    incoming = events.makefile("rb")
    while header := incoming.read(4):
        (length,) = struct.unpack(">I", header)
        _serve(handler, context, incoming.read(length), out)
    sys.exit(1)  # the processor has gone


def _serve(handler: Callable[[Any, Any], Any], context: Any, message: bytes, out: IO[str]) -> None:
    encode = nuclio_sdk.json_encoder.Encoder().encode
    try:
        fields = msgpack.unpackb(message, raw=False, max_bin_len=_MAX_MESSAGE)
        event = nuclio_sdk.Event.deserialize(fields, kind=nuclio_sdk.event.EventDeserializerKinds.msgpack)
        start = time.time()
        output = handler(context, event)
        _write(out, "m" + json.dumps({"duration": time.time() - start or sys.float_info.min}))
        _write(out, "r" + encode(_response(output, encode)))
    except BaseException as error:  # noqa: BLE001  # as the wrapper: even an exit of the handler is an answer
        text = f"Exception caught in handler - {error}: {traceback.format_exc()}"
        context.logger.error(text)
        failure = {"body": text, "body_encoding": "text", "content_type": "text/plain", "status_code": 500}
        _write(out, "r" + encode(failure))


def _response(output: Any, encode: Callable[[Any], str]) -> Any:
    """A bare list is a batch of answers to the wrapper, not one JSON list."""
    if isinstance(output, list):
        return [nuclio_sdk.Response.from_entrypoint_output(encode, each) for each in output]
    return nuclio_sdk.Response.from_entrypoint_output(encode, output)


def _write(out: IO[str], line: str) -> None:
    out.write(line + "\n")
    out.flush()


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    return connection


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--handler", "--event-socket-path", "--control-socket-path"):
        parser.add_argument(name, required=True)
    for name in ("--platform-kind", "--namespace", "--worker-id", "--trigger-kind", "--trigger-name"):
        parser.add_argument(name)
    parser.add_argument("--decode-event-strings", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
