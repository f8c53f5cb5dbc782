"""What the commands do."""

from pilot.client.skillcalls import SkillClient
from pilot.ctl.console import Result, table


def show(call):
    entries = SkillClient("guestbook", call.settings.socket).call("list")
    rows = [(entry["from"], entry["text"]) for entry in entries]
    return Result({"entries": entries}, table(("FROM", "TEXT"), (15, 20), rows))


def sign(call):
    arguments = {"target": call.word(0), "text": call.word(1) or ""}
    return Result(SkillClient("guestbook", call.settings.socket).call("sign", arguments), "signed")
