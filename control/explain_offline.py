"""Explanations without a daemon: by the configuration that a stopped one would read, or by one that is being written.

Guarantees: changes nothing, and asks the same code as the daemon does.

Failure: `control.client.ControlError` with a sentence; `NotAllowed` when the machine's mail is somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import anyio
import msgspec

from control.asking import Asking
from control.client import ControlError, RequestRefused
from control.explain_routes import Ways
from control.explaining import Explainer, QuestionError
from control.offline import NotAllowed
from control.protocol import Explain
from delivery.dispatch import hands_for
from delivery.forwards import UserForwards
from delivery.resolver import Resolver
from policy.admit import admit
from policy.config import Config
from policy.errors import ConfigError
from policy.explain import Explanation
from policy.parser import load_config
from policy.tables.passwd import system_users
from spool.intent import MboxIntent
from spool.layout import Layout


def explain(layout: Layout, asked: Asking) -> bytes:
    """The explanation as JSON, by the configuration that is named, or else by the daemon's own.

    Whoever names a configuration needs no permission but to read it, and what it names.
    """
    if not asked.config and not _owns(layout.spool_dir):
        raise NotAllowed("ask this: aliases and the .forward files of others are private")
    try:
        config = load_config(asked.config or layout.conf_file, layout, asked.macros).config
    except ConfigError as error:
        raise ControlError("\n".join(finding.headline for finding in error.findings)) from None
    try:
        return msgspec.json.encode(anyio.run(_explain, layout, config, asked.question))
    except QuestionError as error:
        raise RequestRefused(str(error)) from None


async def _explain(layout: Layout, config: Config, question: Explain) -> Explanation:
    hands = hands_for(layout, _commit_nothing)
    decide = partial(admit, users=system_users(), forwards=UserForwards(hands))
    ways = Ways(layout, partial(Resolver.of_machine, layout))
    try:
        return await Explainer(lambda: config, decide, ways, running=False).explain(question)
    finally:
        await hands.aclose()


async def _commit_nothing(_intents: Sequence[MboxIntent]) -> None:
    """Nothing is delivered here: hands only look at .forward files."""


def _owns(spool_dir: str) -> bool:
    try:
        return os.geteuid() in (0, os.stat(spool_dir).st_uid)
    except FileNotFoundError:
        # No daemon was ever started here.
        return True
    except OSError:
        return False
