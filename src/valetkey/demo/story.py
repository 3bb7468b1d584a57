"""`valetkey demo`: the main job as a story of eight scenes. Every code shown is one the gateway really gave."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from valetkey.cli.figures import counted
from valetkey.demo.stage import Stage
from valetkey.errors import Unavailable

MODELS = "/openai/v1/models"
CHAT = "/openai/v1/chat/completions"
ELSEWHERE = "127.0.0.9"
"""A loopback address that the key's network does not hold: the other network of the story."""


class Narrator:
    """Two lines a scene: what is tried; what was answered and why."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._colour = sys.stdout.isatty()
        self.scenes: list[dict[str, Any]] = []

    def say(self, text: str = "") -> None:
        if not self._quiet:
            print(text, flush=True)

    def scene(self, title: str, code: str, sentence: str, expected: str) -> None:
        """One scene. Raises `Unavailable` when the answer was another than the story needs."""
        self.scenes.append({"scene": title, "code": code, "sentence": sentence})
        paint = "32" if code in ("VALID", "ok") else "33"
        shown = f"\x1b[{paint}m{code:<16}\x1b[0m" if self._colour else f"{code:<16}"
        self.say(f"{len(self.scenes)}. {title}")
        self.say(f"   {shown} {sentence}")
        self.say()
        if code != expected:
            raise Unavailable(
                f"Scene {len(self.scenes)} should have been answered {expected}, not {code}.", ""
            )


def run(keep: bool = False, json: bool = False) -> None:
    """Play the story. Raises `Unavailable` when a scene goes otherwise than it must."""
    narrator = Narrator(quiet=json)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # whatever ends it, nothing is left serving
    stage = Stage()
    began = time.monotonic()
    try:
        narrator.say("Share the use of a key, not the key.\n")
        narrator.say(f"Starting a stand-in of OpenAI's API and a Valetkey server in {stage.folder} …\n")
        stage.open()
        _play(stage, narrator)
        _finish(stage, narrator, keep=keep, as_json=json, seconds=time.monotonic() - began)
        if keep:
            stage.wait()
    finally:
        stage.close()


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _play(stage: Stage, narrator: Narrator) -> None:
    stage.manage(
        "POST",
        "/services",
        {
            "name": "openai",
            "preset": "openai",
            "base_url": f"http://127.0.0.1:{stage.standin_port}",
            "allow_private": True,
        },
    )
    stage.manage("POST", "/secrets", {"service": "openai", "value": stage.real_key})
    ana = _issue(
        stage,
        "ana",
        networks=["127.0.0.1/32"],
        endpoints=[f"GET {MODELS[7:]}", f"POST {CHAT[7:]}"],
        rate="4/s",
        burst=4,
    )
    narrator.say("The real key is imported once, sealed, and never shown again. Ana gets a valet key:")
    for sentence in ana["sentences"]:
        narrator.say(f"   {sentence}")
    narrator.say()

    first = stage.call("GET", MODELS, ana["key"])
    names = [model["id"] for model in json.loads(first.body)["data"]]
    narrator.scene(
        "Ana lists the models with her valet key.",
        first.code,
        f"OpenAI answered {first.status}: {', '.join(names)}.",
        "VALID",
    )

    denied = stage.call("GET", "/openai/v1/files", ana["key"])
    narrator.scene(
        "She tries the files, which her key does not open.", denied.code, _why(denied), "ENDPOINT_DENIED"
    )

    network = stage.call("GET", MODELS, ana["key"], source=ELSEWHERE)
    narrator.scene(
        f"Somebody uses her key from another network ({ELSEWHERE}).",
        network.code,
        _why(network),
        "NETWORK_DENIED",
    )

    limited = _until(lambda: stage.call("GET", MODELS, ana["key"]), "RATE_LIMITED")
    narrator.scene(
        "A loop in her program calls as fast as it can.", limited.code, _why(limited), "RATE_LIMITED"
    )

    guest = _issue(stage, "guest", kind="temporary", uses=2)
    for _ in range(2):
        stage.call("GET", MODELS, guest["key"])
    spent = stage.call("GET", MODELS, guest["key"])
    narrator.scene(
        "A guest's key is good for two calls; this is the third.", spent.code, _why(spent), "USES_EXHAUSTED"
    )

    _cut_a_stream(stage, narrator)

    seen = stage.seen_by_service()
    leaked = any(stage.real_key.encode() in received for received in stage.received)
    narrator.scene(
        "Did the real key reach a caller? All the bytes that callers received are searched.",
        "ok" if not leaked else "LEAKED",
        f"Not once in {sum(map(len, stage.received)):,} bytes. "
        f"The service was called {seen['requests']} times, always with it.",
        "ok",
    )

    report = stage.manage("POST", "/audit/verify")
    narrator.scene(
        "The record of all this is proved: hash chain, signed checkpoints, nothing missing.",
        report["integrity"] if report["integrity"] == report["completeness"] else "broken",
        ", ".join(
            (
                counted(report["records"], "record", "records"),
                counted(report["checkpoints"], "signed checkpoint", "signed checkpoints"),
                f"{len(report['problems'])} problems.",
            )
        ),
        "ok",
    )


def _cut_a_stream(stage: Stage, narrator: Narrator) -> None:
    ben = _issue(stage, "ben", endpoints=[f"POST {CHAT[7:]}", f"GET {MODELS[7:]}"])
    arrived: list[float] = []
    flowing = threading.Event()

    def listen() -> None:
        body = {
            "model": "standin-endless",
            "stream": True,
            "messages": [{"role": "user", "content": "Count."}],
        }
        for line in stage.stream(CHAT, ben["key"], body):
            if line.startswith(b"data:"):
                arrived.append(time.monotonic())
                if len(arrived) >= 5:
                    flowing.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    if not flowing.wait(15):
        raise Unavailable("The stream did not begin.", "Try again.")
    asked = time.monotonic()
    gone = stage.manage("POST", f"/keys/{ben['id']}/revoke", {})
    returned = time.monotonic()
    listener.join(5)
    late = sum(1 for moment in arrived if moment > returned + 0.05)
    after = stage.call("GET", MODELS, ben["key"])
    narrator.scene(
        "Ben's key is revoked in the middle of a streamed answer.",
        after.code,
        f"Dead everywhere after {(returned - asked) * 1000:.0f} ms, {gone['cut']} open stream cut, "
        f"{late} events came after that. {_why(after)}",
        "REVOKED",
    )
    if late or listener.is_alive() or gone["cut"] != 1:
        raise Unavailable("The stream went on after the revoke.", "")


def _issue(stage: Stage, holder: str, *, kind: str = "private", **terms: Any) -> Any:
    return stage.manage(
        "POST", "/keys", {"service": "openai", "kind": kind, "holder": holder, "terms": terms}
    )


def _until(call: Callable[[], Any], code: str) -> Any:
    answer = call()
    for _ in range(30):
        if answer.code == code:
            break
        answer = call()
    return answer


def _why(answer: Any) -> str:
    document = json.loads(answer.body)
    return str(document.get("detail", ""))


def _finish(stage: Stage, narrator: Narrator, *, keep: bool, as_json: bool, seconds: float) -> None:
    if as_json:
        print(
            json.dumps({"scenes": narrator.scenes, "seconds": round(seconds, 1), "home": str(stage.home)}),
            flush=True,
        )
        return
    narrator.say(f"All scenes played in {seconds:.1f} s. The same with the real API:\n")
    narrator.say("   valetkey serve &")
    narrator.say("   valetkey service add openai --preset openai")
    narrator.say("   valetkey secret set openai                       # asks for the key, hidden")
    narrator.say("   valetkey key issue openai --endpoint 'GET /v1/models' --rate 5/s")
    narrator.say("   curl http://127.0.0.1:8300/openai/v1/models -H 'Authorization: Bearer vk_prv_…'")
    if keep:
        narrator.say(
            f"\nStill serving. Home {stage.home}, gateway port {stage.gateway_port}, control port {stage.control_port}."
        )
        narrator.say(f"   VALETKEY_HOME={stage.home} valetkey key issue openai --holder you")
        narrator.say(f"   OPENAI_BASE_URL=http://127.0.0.1:{stage.gateway_port}/openai/v1")
        narrator.say("Press Ctrl-C to end it.")
